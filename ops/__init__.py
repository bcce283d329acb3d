"""The console: what people run."""
