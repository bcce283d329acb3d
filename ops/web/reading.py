"""Questions to the history, whoever writes it: this process, or another that answers over its socket."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ops.history.tables.answers import Answer, Question
from ops.history.tables.duckdb_file import HistoryFile
from ops.history.tables.positions import Position
from ops.history.tables.serving import PATIENCE_S, WriterGone, ask_writer_all, wait_for_writer

Parameters = Mapping[str, object]


class HistoryReader(Protocol):
    """A history that can be asked from any thread; every call blocks."""

    @property
    def position(self) -> Position:
        """Where it stands now. Raises WriterGone."""
        ...

    def ask(self, sql: str, *, as_of: str | None = None, parameters: Parameters | None = None) -> Answer:
        """The answer to one SELECT, with its position. Raises QueryRefused, WriterGone."""
        ...

    def ask_all(self, questions: Sequence[Question], *, as_of: str | None = None) -> list[Answer]:
        """The answers to several, all at one position: one way there and back. Raises QueryRefused, WriterGone."""
        ...

    def wait(self, position: Position, *, timeout_s: float) -> bool:
        """Wait until it stands there or later; whether it does. Never, for a position of another generation."""
        ...


@dataclass(frozen=True, slots=True)
class OwnHistory:
    """The history that this process writes. `hides`: for somebody who is no operator."""

    file: HistoryFile
    hides: bool = False

    @property
    def position(self) -> Position:
        return self.file.position

    def ask(self, sql: str, *, as_of: str | None = None, parameters: Parameters | None = None) -> Answer:
        return self.file.ask(sql, as_of=as_of, parameters=parameters, hides=self.hides)

    def ask_all(self, questions: Sequence[Question], *, as_of: str | None = None) -> list[Answer]:
        return self.file.ask_all(questions, as_of=as_of, hides=self.hides)

    def wait(self, position: Position, *, timeout_s: float) -> bool:
        # It would be waited for in vain: numbers of another file say nothing about this one.
        if self.file.position.generation != position.generation:
            return False
        return self.file.wait(position.sequence, timeout_s=timeout_s)


@dataclass(frozen=True, slots=True)
class WritersHistory:
    """The history that another process writes. `hides`: for somebody who is no operator."""

    path: Path
    hides: bool = False

    @property
    def position(self) -> Position:
        return _require_position(self.ask("SELECT 1").position, self.path)

    def ask(self, sql: str, *, as_of: str | None = None, parameters: Parameters | None = None) -> Answer:
        return self.ask_all([(sql, parameters or {})], as_of=as_of)[0]

    def ask_all(self, questions: Sequence[Question], *, as_of: str | None = None) -> list[Answer]:
        return ask_writer_all(self.path, questions, as_of=as_of, hides=self.hides, patience_s=PATIENCE_S)

    def wait(self, position: Position, *, timeout_s: float) -> bool:
        # The writer waits, so that asking often is not needed to see what is new at once.
        now = wait_for_writer(self.path, position.sequence, timeout_s=timeout_s)
        return _require_position(now, self.path).covers(position)


def _require_position(found: Position | None, path: Path) -> Position:
    # A writer of an earlier release knows no positions, and whoever asks would wait for ever.
    if found is None:
        raise WriterGone(f"Who writes {path} is of an earlier release: start it again.")
    return found
