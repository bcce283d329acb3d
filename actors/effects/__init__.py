"""actors/effects."""
