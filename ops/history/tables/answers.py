"""What a question to a history comes back with: a table, or why there is none. Whoever only asks needs no DuckDB."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ops.history.tables.positions import Position
from schemas.errors import EXIT_USAGE, FedlogError

# A SELECT, and what stands in it as $NAME.
Question = tuple[str, Mapping[str, object]]
# What the rows of one answer may take in the process that hands them over, roughly; DuckDB's own memory is its matter.
ANSWER_BYTES_MAX = 2 * 10**9
_FETCHED = 2_048
_ROW_BYTES, _CELL_BYTES = 64, 32


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


def read_time_ms(text: str) -> int:
    """The milliseconds of a time in ISO 8601. Raises QueryRefused."""
    try:
        # Without a zone it is UTC, as all that the tables show.
        when = datetime.fromisoformat(text)
        return round((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() * 1000)
    except ValueError:
        raise QueryRefused(f"{text!r} is neither TASK@VERSION nor a time such as 2026-11-26T20:15:00.") from None


def require_reached(asked: Position | None, position: Position) -> None:
    """Raises QueryRefused where what is asked for is not reached at `position`, or is of another file."""
    if asked is not None and not position.covers(asked):
        raise QueryRefused(f"{asked} is no position of this history: it was built anew, or is not there yet.")


def collect_rows(fetch: Callable[[int], list[tuple[Any, ...]]], *, bytes_max: int = ANSWER_BYTES_MAX) -> list[Any]:
    """All rows that `fetch` has, so many at a time. Raises QueryRefused before they fill the memory."""
    rows: list[tuple[Any, ...]] = []
    left = bytes_max
    while some := fetch(_FETCHED):
        left -= len(some) * (_ROW_BYTES + _CELL_BYTES * len(some[0]))
        # Most of a wide answer is text; a number takes what is reckoned for its cell.
        left -= sum(len(value) for row in some for value in row if type(value) in (str, bytes))
        if left < 0:
            raise QueryRefused(
                f"The answer is too large ({len(rows):,} rows and more): ask for fewer columns, for sums, or with "
                "LIMIT; `fedlog history export` writes whole tables."
            )
        rows += some
    return rows


@contextlib.contextmanager
def ending_after(seconds: float, interrupt: Callable[[], None]) -> Iterator[None]:
    """End a question that would take for ever: whoever asked it may have gone, and it keeps the cores busy."""
    timer = threading.Timer(seconds, interrupt)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
