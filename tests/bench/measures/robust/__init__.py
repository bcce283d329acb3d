"""What robust rules cost: `rows` of the bench, and `one_round` in a process of its own."""
