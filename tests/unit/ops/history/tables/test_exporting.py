"""A file of Parquet holds the answer: names, types and values."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import duckdb
import pytest

from ops.history.tables.catalogue import load_tables
from ops.history.tables.duckdb_file import HistoryFile
from ops.history.tables.exporting import write_parquet
from ops.history.tables.projector import Viewer
from ops.history.tables.syncing import make_identity, sync
from tests.tables import OPERATOR, READER, synced, tell


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


@pytest.mark.parametrize("viewer", [OPERATOR, READER])
def test_a_history_writes_its_own_files(tmp_path: Path, viewer: Viewer) -> None:
    """The same rows as an answer has, for whomever the history is; and files nowhere but in the folder named."""
    folder = tmp_path / "it's out"
    folder.mkdir()
    log = tell().log
    with closing(HistoryFile(tmp_path / "h.duckdb", identity=make_identity(viewer), exports_to=folder)) as history:
        sync(log, history, viewer=viewer)
        counts = dict(history.write_parquet(load_tables(), folder))
        for name in load_tables():
            answer = history.ask(f"FROM {name}")
            with duckdb.connect() as other:
                found = other.read_parquet(str(folder / f"{name}.parquet"))
                assert found.columns == answer.columns
                assert sorted(map(repr, found.fetchall())) == sorted(map(repr, answer.rows)), name
            assert counts[name] == len(answer.rows)
        with pytest.raises(duckdb.PermissionException):
            dict(history.write_parquet(["tasks"], tmp_path))
        with pytest.raises(duckdb.PermissionException):
            dict(history.write_parquet(["tasks"], folder / ".."))
    assert {path.name for path in tmp_path.iterdir()} == {"h.duckdb", folder.name}
