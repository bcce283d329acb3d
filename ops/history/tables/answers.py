"""What a question to a history comes back with: a table, or why there is none. Whoever only asks needs no DuckDB."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ops.history.tables.positions import Position
from schemas.errors import EXIT_USAGE, FedlogError


class HistoryUnfit(FedlogError):
    """The file is no history that this release can go on with; the message says what to do."""

    code = "history_unfit"


class HistoryUnwritable(FedlogError):
    """The file cannot be written, as on a full disk; what was stored before is whole."""

    code = "history_unwritable"


class HistoryInUse(FedlogError):
    """Another process has the file open for writing."""

    code = "history_in_use"


class QueryRefused(FedlogError):
    """The question cannot be answered: it is no question, or DuckDB does not understand it."""

    exit_code = EXIT_USAGE
    code = "query_refused"


@dataclass(frozen=True, slots=True)
class Answer:
    """A table: names of columns, their types in SQL, and rows; `until_ms` is the newest record that it rests on.

    `position`: where the history stood when it was asked.
    """

    columns: list[str]
    types: list[str]
    rows: list[tuple[Any, ...]]
    until_ms: int | None
    position: Position | None = None
