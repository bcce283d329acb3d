"""Answers of the history as people read them on a terminal: short where the digits say nothing, and never too wide."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from ops.console import note, number, say, table

if TYPE_CHECKING:
    from ops.history.tables.answers import Answer

_HEX = re.compile("[0-9a-f]{32,}")
_HEX_SHOWN = 8
_PLACE = ("topic", "partition", "offset")
# The first to go where not all has room: whoever looks for digests asks for JSON anyway.
_DISPENSABLE = (
    "members_root",
    "update_id",
    "sha256",
    "delta",
    "evaluated_at",
    "round_id",
    "epsilon_before",
    "participations_max",
    "noise_multiplier",
    "abandoned",
    "expired",
    "of devices",
    "first_at",
    "record",
    "samples",
)
# What rich draws around each cell, and one line more.
_BORDER = 3


@dataclass(frozen=True, slots=True)
class Shown:
    """A table of text, and the names of the columns that had no room in it."""

    columns: list[str]
    rows: list[list[str]]
    left_out: list[str]


def say_table(found: Answer) -> None:
    """All of its rows and columns; on a terminal that is too narrow for them one row below the other."""
    rows = [[_format(value) for value in row] for row in found.rows]
    room = find_room()
    if room is None or _measure(found.columns, rows) <= room:
        table(found.columns, rows)
        return
    width = max(map(len, found.columns))
    for count, row in enumerate(rows):
        say(f"{'' if not count else chr(10)}row {count + 1}")
        for name, cell in zip(found.columns, row, strict=True):
            say(f"  {name:<{width}}  {cell}".rstrip())


def say_brief(found: Answer) -> None:
    """Its rows as far as a person needs them: the first digits of digests, places as one word, no empty columns."""
    shown = fit(found, room=find_room())
    table(shown.columns, shown.rows)
    if shown.left_out:
        note(f"No room for {', '.join(shown.left_out)}: a wider terminal shows more, --json all.")


def fit(found: Answer, *, room: int | None) -> Shown:
    """The table in so many columns of a terminal; `room` None: whatever it takes."""
    joined = _join_places(found)
    days = {value.date() for row in joined.rows for value in row if isinstance(value, datetime)}
    columns = joined.columns
    rows = [[_format(value, is_brief=True, is_one_day=len(days) == 1) for value in row] for row in joined.rows]
    kept = [at for at, _ in enumerate(columns) if any(row[at] for row in rows)]
    left_out: list[str] = []
    for name in _DISPENSABLE:
        if room is None or _measure(*_choose(columns, rows, kept=kept)) <= room:
            break
        if name in columns and (at := columns.index(name)) in kept:
            kept.remove(at)
            left_out.append(name)
    return Shown(*_choose(columns, rows, kept=kept), left_out)


def find_room() -> int | None:
    """How many columns the terminal has; None into a pipe, where `grep` and `awk` know no width."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _choose(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, kept: Sequence[int]
) -> tuple[list[str], list[list[str]]]:
    return [columns[at] for at in kept], [[row[at] for at in kept] for row in rows]


def _measure(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """How many columns of a terminal a table takes."""
    return 1 + sum(_BORDER + max(map(len, cells)) for cells in zip(columns, *rows, strict=True))


def _join_places(found: Answer) -> Answer:
    """Topic, partition and offset as one column, as every message of fedlog writes a place."""
    if not {*_PLACE} <= {*found.columns}:
        return found
    at = [found.columns.index(name) for name in _PLACE]
    others = [number for number, _ in enumerate(found.columns) if number not in at]
    rows = []
    for row in found.rows:
        topic, partition, offset = (row[number] for number in at)
        place = None if topic is None else f"{topic}[{partition}]@{offset}"
        rows.append((*(row[number] for number in others), place))
    return replace(found, columns=[*(found.columns[number] for number in others), "record"], rows=rows)


def _format(value: object, *, is_brief: bool = False, is_one_day: bool = False) -> str:
    match value:
        case None:
            return ""
        case str() if is_brief and _HEX.fullmatch(value):
            return f"{value[:_HEX_SHOWN]}…"
        case float():
            return number(value, 4 if is_brief else 6)
        case datetime():
            # The day stands below every answer, which says up to when it knows.
            return value.isoformat(sep=" ", timespec="milliseconds")[11 if is_one_day else 0 :]
        case _:
            return str(value)
