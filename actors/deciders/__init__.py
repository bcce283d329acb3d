"""Pure deciders: state, decide and evolve, without clock, entropy or I/O."""
