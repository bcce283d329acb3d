"""Long histories (`past`), and what it costs to turn them into tables (`tables`); for `tests.bench.rows.history`."""
