"""actors/effects/aggregator."""
