"""Commands of the server: `serve` runs it, `token` lets people in."""
