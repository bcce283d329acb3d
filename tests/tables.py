"""Histories as tables for tests: of the story that is always told the same, and row for row beside another."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from ops.history.tables.catalogue import load_tables
from ops.history.tables.duckdb_file import HistoryFile
from ops.history.tables.facts import FACTS
from ops.history.tables.projector import Viewer
from ops.history.tables.syncing import make_identity, sync
from streams.log import EventLog
from tests.worlds.builders import DEPLOYMENT, KEY
from tests.worlds.story import Story, told

OPERATOR = Viewer(operator=KEY.public_key, deployment=DEPLOYMENT, is_operator=True)
READER = Viewer(operator=KEY.public_key, deployment=DEPLOYMENT)


@functools.cache
def tell() -> Story:
    """The story, told once for all tests of a process."""
    return told()


@contextmanager
def opened(path: Path, viewer: Viewer = OPERATOR) -> Iterator[HistoryFile]:
    """A history that is open for writing."""
    with closing(HistoryFile(path, identity=make_identity(viewer))) as history:
        yield history


@contextmanager
def synced(path: Path, log: EventLog, viewer: Viewer = OPERATOR) -> Iterator[HistoryFile]:
    """A history that has taken in all that the log holds."""
    with opened(path, viewer) as history:
        sync(log, history, viewer=viewer)
        yield history


def list_rows(history: HistoryFile) -> dict[str, list[str]]:
    """Every row of every table, facts included, and the marks; in an order that does not depend on their arrival."""
    names = [*load_tables(), *(f"facts.{table.name}" for table in FACTS.values()), "marks"]
    # Which batch a row came with depends on how often somebody looked; `COLUMNS` leaves it out of all that have it.
    asked = "SELECT COLUMNS(lambda name: name NOT IN ('sequence', 'at_sequence')) FROM"
    return {name: sorted(map(repr, history.ask(f"{asked} {name}").rows)) for name in names}
