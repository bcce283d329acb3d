"""What masks cost: `rows` of the bench, `one_round` in a process of its own, and `device`, which clips and encodes."""
