"""actors/hosts."""
