"""Brings a history up to the log: to its present end, or on and on; and builds one anew beside the old."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from ops.history.following import Follower
from ops.history.releases import store_statistics
from ops.history.tables.duckdb_file import HistoryFile, require_unused
from ops.history.tables.projector import TOPICS, Projector, Viewer
from ops.opening import list_partitions
from streams.log import POLL_S_MIN, EventLog

# A transaction of DuckDB costs some milliseconds, on a busy machine more: rows are stored together, and none waits for
# long. Where storing takes a fifth of the time, more of them are stored together.
ROWS_MAX = 50_000
WAIT_S, WAIT_S_MAX = 0.1, 0.25
PAUSES = 4
# Who is told to stop while the broker is gone must not wait for it.
LAST_LOOK_S, LAST_LOOK_S_MAX = 5.0, 30.0


@dataclass(slots=True)
class Synced:
    """What a history has taken in since it was opened; `is_current` once it has come to where the log ended then."""

    rows: int = 0
    seconds: float = 0.0
    is_current: bool = False


def make_identity(viewer: Viewer) -> str:
    """What a history is of: a deployment, and for whom, because readers of private tasks see less."""
    deployment = "unnamed" if viewer.deployment is None else viewer.deployment.hex()
    return f"{deployment} for {'the operator' if viewer.is_operator else 'readers'}"


def sync(
    log: EventLog,
    history: HistoryFile,
    *,
    viewer: Viewer,
    stop: threading.Event | None = None,
    on_progress: Callable[[Synced], None] = lambda synced: None,
) -> Synced:
    """Take in what the log holds; with `stop` also what is appended, up to where the log ends when it is set.

    Raises HistoryGap, JournalBroken, LogUnavailable.
    """
    numbers, topics = _find_places(log)
    projector = Projector(history, viewer, topics=topics)
    # Before anything is read: what is missing would show nowhere later.
    projector.check_gaps(log)
    synced, began_s = Synced(), time.monotonic()
    synced.rows += store_statistics(log, history)
    with Follower(log, projector, partitions=numbers, reads_ahead=stop is None) as follower:
        stored_s, wait_s = began_s, WAIT_S
        waits_s = WAIT_S_MAX if stop is not None else POLL_S_MIN
        while follower.is_behind if stop is None else not stop.is_set():
            # What comes last is a marker, of which a reader says nothing: a long poll would wait it out.
            waits_s = waits_s if follower.poll(waits_s) else min(2 * waits_s, WAIT_S_MAX)
            begins_s = time.monotonic()
            # Whichever comes first: full, or old enough.
            if projector.waiting < ROWS_MAX and begins_s - stored_s < wait_s:
                continue
            synced.rows += _store(projector, log, into=history)
            stored_s = time.monotonic()
            wait_s = min(WAIT_S_MAX, max(WAIT_S, PAUSES * (stored_s - begins_s)))
            synced.seconds = stored_s - began_s
            synced.is_current = synced.is_current or not follower.is_behind
            on_progress(synced)
        if stop is not None:
            synced.rows += _take_last(log, projector, partitions=numbers, into=history)
        else:
            projector.pass_on(follower.positions)
        synced.rows += _store(projector, log, into=history)
    synced.seconds = time.monotonic() - began_s
    return synced


def rebuild(log: EventLog, path: Path, *, viewer: Viewer) -> Synced:
    """Build it anew beside the old one, and put it into its place once it is whole. Raises HistoryInUse."""
    require_unused(path)
    fresh = path.with_name(path.name + ".new")
    _remove(fresh)
    with closing(HistoryFile(fresh, identity=make_identity(viewer))) as history:
        synced = sync(log, history, viewer=viewer)
    # A kill before this leaves the old file as it was.
    fresh.replace(path)
    _remove(fresh)
    return synced


def _store(projector: Projector, log: EventLog, *, into: HistoryFile) -> int:
    """Store what is waiting; how many rows that was."""
    waiting, has_releases = projector.waiting, projector.has_releases
    projector.flush()
    # Afterwards, and of the tables, so that no crash loses any; to ask them each time would take a tenth of a core.
    return waiting + (store_statistics(log, into) if has_releases else 0)


def _take_last(log: EventLog, projector: Projector, *, partitions: list[int], into: HistoryFile) -> int:
    """Read on to the end of the log, if it is near; how many rows were stored on the way."""
    # Whoever ends a run asks about its end. From a broker that is gone nothing comes; a busy one takes its time.
    began_s = heard_s = time.monotonic()
    rows = 0
    with Follower(log, projector, partitions=partitions) as follower:
        while follower.is_behind and time.monotonic() < min(heard_s + LAST_LOOK_S, began_s + LAST_LOOK_S_MAX):
            if follower.poll(WAIT_S_MAX):
                heard_s = time.monotonic()
            if projector.waiting >= ROWS_MAX:
                rows += _store(projector, log, into=into)
        projector.pass_on(follower.positions)
    return rows


def _find_places(log: EventLog) -> tuple[list[int], list[str]]:
    """The partitions and topics that there are: all of them, or those of an export."""
    numbers, listed = list_partitions(log), getattr(log, "list_partitions", None)
    return numbers, [topic for topic in TOPICS if listed is None or {*numbers} <= {*listed([topic])}]


def _remove(path: Path) -> None:
    # DuckDB keeps what it has not merged yet in a second file.
    for each in (path, path.with_name(path.name + ".wal")):
        each.unlink(missing_ok=True)
