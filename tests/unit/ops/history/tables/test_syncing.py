"""A history is whole whatever dies: after any kill it goes on, and ends as one that was built at once."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ops.history.tables.answers import HistoryInUse
from ops.history.tables.syncing import rebuild, sync
from tests.root import ROOT
from tests.tables import OPERATOR, list_rows, opened, synced, tell
from tests.trials.histories.history import FOLDER, unpacked
from tests.worlds.builders import DEPLOYMENT, KEY

FILE = "history.duckdb"
KILLS = 4
# A few rows a transaction, and a pause in each, so that a kill finds it at work.
CHILD = """
import sys, time
from pathlib import Path
from ops.history.tables import duckdb_file, syncing
from ops.history.tables.projector import Viewer
from streams.exported import ExportedLog
folder, path, operator, deployment = sys.argv[1:]
viewer = Viewer(operator=bytes.fromhex(operator), deployment=bytes.fromhex(deployment), is_operator=True)
syncing.ROWS_MAX = 5
insert = duckdb_file.insert
def slow(*arguments, **more):
    insert(*arguments, **more)
    time.sleep(0.002)
duckdb_file.insert = slow
history = duckdb_file.HistoryFile(Path(path), identity=syncing.make_identity(viewer))
print("open", flush=True)
syncing.sync(ExportedLog(Path(folder)), history, viewer=viewer)
history.close()
"""
REBUILD = """
import sys
from pathlib import Path
from ops.history.tables.projector import Viewer
from ops.history.tables.syncing import rebuild
from schemas.topics import CATALOGUE
from streams.memory import MemoryLog
rebuild(MemoryLog(CATALOGUE), Path(sys.argv[1]), viewer=Viewer(operator=None, deployment=None))
"""


def test_who_is_told_to_end_takes_in_the_end(tmp_path: Path) -> None:
    """What stands in the log when a run ends is in its history, however soon it was told."""
    stop = threading.Event()
    stop.set()
    with opened(tmp_path / "told.duckdb") as history, synced(tmp_path / "whole.duckdb", tell().log) as whole:
        sync(tell().log, history, viewer=OPERATOR, stop=stop)
        assert list_rows(history) == list_rows(whole)


def test_a_second_look_adds_what_is_new_and_nothing_else(tmp_path: Path) -> None:
    """Whatever was taken in is not read again."""
    log = tell().log
    with synced(tmp_path / FILE, log) as history:
        before = list_rows(history)
        assert sync(log, history, viewer=OPERATOR).rows == 0
        assert list_rows(history) == before
    with opened(tmp_path / FILE) as history:
        assert sync(log, history, viewer=OPERATOR).rows == 0


def test_where_nothing_is_new_nobody_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind the last record of a journal stands a marker: who has passed it once makes no reader for it again."""
    log = tell().log
    with synced(tmp_path / FILE, log) as history:
        marks = history.read_marks()
    assert {at: mark.offset for at, mark in marks.items()} == {at: log.bounds(at).end for at in marks}

    def read(*_: object) -> None:
        raise AssertionError("a reader was made")

    monkeypatch.setattr(log, "reader", read)
    monkeypatch.setattr(log, "bulk_reader", read)
    with opened(tmp_path / FILE) as history:
        assert sync(log, history, viewer=OPERATOR).rows == 0


def test_after_any_kill_it_ends_as_one_that_was_built_at_once(tmp_path: Path) -> None:
    """SIGKILL at random moments, in transactions too: row for row the same, facts, tables and marks."""
    history = unpacked(next(iter(FOLDER.glob("*.tar"))), tmp_path / "story")
    folder, path = tmp_path / "story", tmp_path / FILE
    arguments = [str(folder), str(path), KEY.public_key.hex(), DEPLOYMENT.hex()]
    draw, done = random.Random(20261126), False
    for kill in range(40):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, *arguments],
            stdout=subprocess.PIPE,
            cwd=ROOT,
            start_new_session=True,
        )
        assert child.stdout is not None
        assert child.stdout.readline() == b"open\n"
        if kill < KILLS:
            time.sleep(draw.uniform(0.0, 0.15))
            child.kill()
        done = child.wait() == 0
        child.stdout.close()
        if done:
            break
    assert done
    with opened(path) as killed, synced(tmp_path / "whole", history.log) as whole:
        assert list_rows(killed) == list_rows(whole)


def test_a_rebuild_replaces_the_old_file_once_it_is_whole(tmp_path: Path) -> None:
    """The old one stands until then, and is not taken from a process that writes it."""
    log, path = tell().log, tmp_path / FILE
    with synced(path, log) as history:
        expected = list_rows(history)
        del history
    path.write_bytes(b"no database any more")
    rebuild(log, path, viewer=OPERATOR)
    with opened(path) as history:
        assert list_rows(history) == expected
        child = subprocess.run(
            [sys.executable, "-c", REBUILD, str(path)], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert HistoryInUse.__name__ in child.stderr
    with pytest.raises(FileNotFoundError):
        (tmp_path / f"{FILE}.new").stat()
