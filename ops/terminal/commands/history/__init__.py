"""ops/terminal/commands/history."""
