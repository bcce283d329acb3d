"""ops/terminal."""
