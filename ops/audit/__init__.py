"""ops/audit."""
