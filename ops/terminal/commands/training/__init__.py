"""ops/terminal/commands/training."""
