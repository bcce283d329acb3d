"""The projector with crash points: the history of production, wrapped from outside; and what it must be in the end.

Whatever has struck it: in the end its tables are those of a history that was built at once, row for row.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ops.history.tables import duckdb_file, live
from ops.history.tables.duckdb_file import HistoryFile
from ops.history.tables.facts import Columns
from ops.history.tables.live import LiveHistory
from ops.history.tables.projector import Mark, Viewer
from ops.history.tables.syncing import make_identity, sync
from streams.kafka.log import KafkaLog
from streams.kafka.settings import KafkaSettings
from streams.log import EventLog, TopicPartition
from tests.tables import list_rows
from tests.trials.chaos.trap import Trap
from tests.trials.chaos.worker import prepare

FILE = "history.duckdb"
# DuckDB merges what it has committed into its file where so much waits: here at every commit, and under every blow.
_CHECKPOINT_AT = "1KB"


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What the projector's process is told."""

    kafka: KafkaSettings
    viewer: Viewer
    trap: Trap
    folder: Path
    log_file: Path


def work(orders: Orders) -> None:
    """Keep a history until death."""
    prepare(orders.log_file)
    trap = orders.trap
    duckdb_file._OPTIONS["checkpoint_threshold"] = _CHECKPOINT_AT
    live.HistoryFile = lambda path, identity, **_: TrappedFile(path, identity=identity, trap=trap)  # type: ignore[assignment,misc]
    _trap_steps(trap)
    with (
        closing(KafkaLog(orders.kafka)) as log,
        LiveHistory(orders.folder / FILE, log, viewer=orders.viewer) as history,
    ):
        while True:
            history.check(timeout_s=1.0)


class TrappedFile(HistoryFile):
    """A file whose opening and whose transactions with rows pass points."""

    def __init__(self, path: Path, *, identity: str, trap: Trap) -> None:
        super().__init__(path, identity=identity)
        self._trap = trap
        trap.passed("open")

    def write(self, facts: Mapping[str, Sequence[Columns]], marks: Mapping[TopicPartition, Mark]) -> None:
        if facts:
            self._trap.passed("read")
        super().write(facts, marks)
        if facts:
            self._trap.passed("stored")


def compare(log: EventLog, folder: Path, viewer: Viewer) -> Iterator[str]:
    """What the struck history, once it has read on, has otherwise than one that is built now."""
    began_s = time.time()
    with _brought_up(log, folder / FILE, viewer) as struck, _brought_up(log, folder / "whole.duckdb", viewer) as whole:
        struck_rows, whole_rows = list_rows(struck), list_rows(whole)
    if not whole_rows["versions"]:
        yield f"the history of {time.time() - began_s:.0f} s ago has no version"
    for name, rows in whole_rows.items():
        if rows != struck_rows[name]:
            yield f"{name} has {len(struck_rows[name])} rows after the blows, and {len(rows)} when built at once"


@contextlib.contextmanager
def _brought_up(log: EventLog, path: Path, viewer: Viewer) -> Iterator[HistoryFile]:
    with closing(HistoryFile(path, identity=make_identity(viewer))) as history:
        sync(log, history, viewer=viewer)
        yield history


def _trap_steps(trap: Trap) -> None:
    transaction, insert = duckdb_file._transaction, duckdb_file.insert

    @contextlib.contextmanager
    def trapped_transaction(connection: Any) -> Iterator[None]:
        with transaction(connection):
            trap.passed("begun")
            yield
            trap.passed("marked")
            trap.soon("committing")

    def trapped_insert(*arguments: Any, **more: Any) -> None:
        insert(*arguments, **more)
        trap.passed("rows")

    duckdb_file._transaction, duckdb_file.insert = trapped_transaction, trapped_insert
