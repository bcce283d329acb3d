"""What nothing can take less than: `compiled` is what a compiler would save of an update at the aggregator."""
