"""actors/deciders/arithmetic."""
