"""ops/terminal/commands/cluster."""
