"""ops/operator."""
