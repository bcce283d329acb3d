"""A history that a thread keeps up to the log, and that answers meanwhile: in its process, and to others over a socket.

`fedlog history sync --follow` holds one, which runs and the demo start beside them; a server of pages holds one where
nobody else does.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from ops.history.tables import serving
from ops.history.tables.answers import Answer, HistoryInUse
from ops.history.tables.duckdb_file import HistoryFile
from ops.history.tables.projector import Viewer
from ops.history.tables.syncing import Synced, make_identity, sync
from schemas.errors import FedlogError
from streams.log import EventLog, LogUnavailable

# A question of `fedlog query` may have the file open at this moment, and lets go of it soon.
OPEN_WAIT_S = 10.0
RETRY_S = 0.1
OUTAGE_WAIT_S = 1.0


class HistoryServed(FedlogError):
    """Another process keeps this history up to date already, and answers questions about it."""

    code = "history_served"


def open_or_find_writer(path: Path, *, viewer: Viewer, exports_to: Path | None = None) -> HistoryFile | None:
    """The history, open for writing; None where another process writes it, and answers. Raises HistoryInUse."""
    give_up_s = time.monotonic() + OPEN_WAIT_S
    while not serving.is_served(path):
        try:
            return HistoryFile(path, identity=make_identity(viewer), exports_to=exports_to)
        except HistoryInUse:
            # A question of another process, or a writer that does not answer yet.
            if time.monotonic() > give_up_s:
                raise
        time.sleep(RETRY_S)
    return None


class LiveHistory:
    """A context. Inside it the log belongs to its thread; `ask` may be called from any.

    Questions over the socket wait until it has come to where the log ended at first, or for half a minute.

    Entering raises HistoryServed, HistoryInUse, HistoryUnfit; `check` raises what has ended it since.
    """

    def __init__(
        self, path: Path, log: EventLog, *, viewer: Viewer, on_progress: Callable[[Synced], None] = lambda synced: None
    ) -> None:
        self._path, self._log, self._viewer, self._on_progress = path, log, viewer, on_progress
        self._stop, self._ready = threading.Event(), threading.Event()
        self._failure: BaseException | None = None
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self.history = stack.enter_context(contextlib.closing(self._open()))
            stack.enter_context(serving.HistoryServer(self._path, self.history, ready=self._ready))
            thread = threading.Thread(target=self._follow, name="projector", daemon=True)
            thread.start()
            # The thread ends before the file is closed, and stores what it has read.
            stack.callback(thread.join)
            stack.callback(self._stop.set)
            stack.callback(self._ready.set)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def ask(self, sql: str, *, as_of: str | None = None) -> Answer:
        """The answer to one SELECT; see `HistoryAnswers`. Raises QueryRefused."""
        return self.history.ask(sql, as_of=as_of)

    def check(self, timeout_s: float = 0.0) -> None:
        """Wait so long, and raise what has ended the thread."""
        self._stop.wait(timeout_s)
        if self._failure is not None:
            raise self._failure

    def _open(self) -> HistoryFile:
        history = open_or_find_writer(self._path, viewer=self._viewer)
        if history is None:
            raise HistoryServed(f"{self._path} is kept up to date by another process, which answers `fedlog query`.")
        return history

    def _follow(self) -> None:
        try:
            while not self._stop.is_set():
                try:
                    sync(self._log, self.history, viewer=self._viewer, stop=self._stop, on_progress=self._note)
                # What is stored says where to go on, so that a lost broker is waited for.
                except LogUnavailable:
                    self._stop.wait(OUTAGE_WAIT_S)
        except BaseException as error:  # noqa: BLE001 - raised by `check`
            # Told to whoever holds it, because nobody sees a thread die.
            self._failure = error
            self._ready.set()
            self._stop.set()

    def _note(self, synced: Synced) -> None:
        if synced.is_current:
            self._ready.set()
        self._on_progress(synced)
