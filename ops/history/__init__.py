"""ops/history."""
