"""A file of Parquet holds the answer: names, types and values."""

from __future__ import annotations

from pathlib import Path

import duckdb

from ops.history.tables.catalogue import load_tables
from ops.history.tables.exporting import write_parquet
from tests.tables import synced, tell


def test_every_table_comes_back_from_its_file(tmp_path: Path) -> None:
    """As another program reads it, empty ones too; a second export replaces the first."""
    with synced(tmp_path / "history.duckdb", tell().log) as history:
        for name in load_tables():
            answer, path = history.ask(f"FROM {name}"), tmp_path / f"{name}.parquet"
            for _ in range(2):
                write_parquet(answer, path)
            with duckdb.connect() as other:
                found = other.read_parquet(str(path))
                assert found.columns == answer.columns
                assert [str(kind) for kind in found.types] == answer.types
                assert sorted(map(repr, found.fetchall())) == sorted(map(repr, answer.rows)), name
