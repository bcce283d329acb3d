"""The history that a server reads, which it writes itself where nobody does; and the log that it writes to."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from ops.history.tables.answers import Answer, Question
from ops.history.tables.live import LiveHistory
from ops.history.tables.positions import Position
from ops.history.tables.projector import Viewer
from ops.history.tables.serving import WriterGone, is_served
from ops.web.reading import HistoryReader, OwnHistory, Parameters, WritersHistory
from schemas.errors import FedlogError
from streams.log import EventLog, LogError

# Between two looks at who writes, and two tries to reach the log.
LOOK_EVERY_S = 1.0

OpenLog = Callable[[], AbstractContextManager[EventLog]]


class KeptLog:
    """One log for many changes, one after the other: to connect takes longer than to write. Close it."""

    def __init__(self, open_log: Callable[[], EventLog]) -> None:
        self._open_log = open_log
        self._log: EventLog | None = None

    @contextlib.contextmanager
    def use(self) -> Iterator[EventLog]:
        """The log, connected where it is not; after an error of its own the next use connects anew."""
        if self._log is None:
            self._log = self._open_log()
        try:
            yield self._log
        except LogError:
            self.close()
            raise

    def close(self) -> None:
        """Close the log, where it is open."""
        if self._log is not None:
            self._log.close()
            self._log = None


class KeptHistory:
    """The history `path`, whoever writes it at the moment. Use it as a context."""

    def __init__(self, path: Path, open_log: OpenLog, *, find_viewer: Callable[[EventLog], Viewer]) -> None:
        self._path, self._open_log, self._find_viewer = path, open_log, find_viewer
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="history", daemon=True)
        self._found: OwnHistory | WritersHistory | None = None
        # Why there is none at the moment, for whoever asks.
        self.trouble = "The history is being opened; ask again."

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=30.0)

    def find(self) -> OwnHistory | WritersHistory:
        """The history as it can be asked now. Raises WriterGone."""
        if self._found is None:
            raise WriterGone(self.trouble)
        return self._found

    def make_reader(self, *, hides: bool = False) -> HistoryReader:
        """A reader that finds the writer anew for each question."""
        return _Relay(self, hides)

    def _keep(self) -> None:
        # Who writes may change: a run begins or ends, and this server goes on.
        while not self._stop.is_set():
            try:
                if is_served(self._path):
                    self._follow_writer()
                else:
                    self._write()
            # A writer of another release, a gap, a log out of reach: told to whoever asks, and tried again.
            except FedlogError as error:
                self.trouble = str(error)
            self._stop.wait(LOOK_EVERY_S)

    def _follow_writer(self) -> None:
        self._found = WritersHistory(self._path)
        try:
            while is_served(self._path) and not self._stop.wait(LOOK_EVERY_S):
                pass
        finally:
            self._found = None
            self.trouble = "Who wrote the history has ended; ask again."

    def _write(self) -> None:
        with self._open_log() as log:
            viewer = self._find_viewer(log)
            # A file is of one deployment: one that is begun before there is any would be unfit from the first task on.
            if viewer.operator is not None and viewer.deployment is None:
                self.trouble = "Nothing was created in this log yet; ask again."
                return
            # Where somebody was quicker this raises, and the next look finds who answers.
            with LiveHistory(self._path, log, viewer=viewer) as live:
                self._found = OwnHistory(live.history)
                try:
                    while not self._stop.wait(LOOK_EVERY_S):
                        live.check()
                finally:
                    self._found = None


@dataclass(frozen=True, slots=True)
class _Relay:
    """A history whose writer may change between two questions."""

    kept: KeptHistory
    hides: bool

    @property
    def position(self) -> Position:
        return self._find().position

    def ask(self, sql: str, *, as_of: str | None = None, parameters: Parameters | None = None) -> Answer:
        return self._find().ask(sql, as_of=as_of, parameters=parameters)

    def ask_all(self, questions: Sequence[Question], *, as_of: str | None = None) -> list[Answer]:
        return self._find().ask_all(questions, as_of=as_of)

    def wait(self, position: Position, *, timeout_s: float) -> bool:
        return self._find().wait(position, timeout_s=timeout_s)

    def _find(self) -> OwnHistory | WritersHistory:
        # Anew for each question, because the writer of a moment ago may be gone.
        return replace(self.kept.find(), hides=self.hides)
