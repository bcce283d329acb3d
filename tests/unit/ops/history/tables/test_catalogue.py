"""The tables that people ask: what is described is what is there."""

from __future__ import annotations

from pathlib import Path

from ops.history.tables.catalogue import load_tables
from tests.tables import opened


def test_every_column_is_described_and_no_other(tmp_path: Path) -> None:
    """In the order in which `SELECT *` shows them, each with a meaning."""
    with opened(tmp_path / "history.duckdb") as history:
        for table in load_tables().values():
            assert history.ask(f"FROM {table.name}").columns == list(table.columns), table.name
            assert table.meaning.endswith(".")
            assert all(table.columns.values()), table.name


def test_as_of_a_time_every_fact_ends_there() -> None:
    """No query reads a table of facts past it."""
    for table in load_tables().values():
        query = table.make_query(as_of_ms=77)
        assert query.count("(FROM facts.") == query.count("facts.") == query.count("WHERE at_ms <= 77)")
