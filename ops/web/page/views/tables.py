"""Answers of the history as tables for people: ids lead to their pages, a place in the log is one link."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import htpy as h

from ops.history.records import format_value
from ops.web.page.charts.scales import make_table
from ops.web.page.formats import format_bytes, format_clock, format_number, format_seconds, shorten, to_ms
from ops.web.page.moment import Moment, Row
from ops.web.page.views.parts import draw_device

PLACE = ("topic", "partition", "offset")
NAMES = {
    "client_count": "updates",
    "round_id": "round",
    "base_version": "from version",
    "rho_before": "ρ before",
    "rho_after": "ρ after",
    "rho_total": "ρ",
    "epsilon": "ε",
    "epsilon_before": "ε before",
    "epsilon_after": "ε after",
    "delta": "δ",
    "participations_max": "busiest device",
    "noise_multiplier": "noise z",
    "noise_scale": "noise σ",
    "appended_at": "appended, UTC",
    "decided_at": "decided, UTC",
    "evaluated_at": "evaluated, UTC",
    "published_at": "published, UTC",
    "granted_at": "granted, UTC",
    "claimed_at": "claimed, UTC",
    "first_lease_at": "first lease, UTC",
    "last_lease_at": "last lease, UTC",
    "running": "in production, it says",
    "running_at": "said, UTC",
    "staleness_mean": "mean staleness",
    "held_s": "held",
}
LONG = 32


@dataclass(frozen=True, slots=True)
class Cell:
    """One value of an answer, with the row that it stands in; `task`: whose rows they are, where they do not say it."""

    moment: Moment
    row: Row
    name: str
    task: str = ""

    @property
    def value(self) -> Any:
        """What stands there."""
        return self.row[self.name]


def draw_rows(moment: Moment, rows: Sequence[Row], *, task: str = "", nothing: str, caption: str) -> h.Node:
    """Rows as a table, the columns that say nothing left out; `nothing` where there is no row."""
    if not rows:
        return h.p(".empty")[nothing]
    has_place = all(name in rows[0] for name in PLACE)
    kept = [name for name in rows[0] if not (has_place and name in PLACE)]
    # A column without a value in any row, such as what viewers may not see, would only take room.
    columns = [name for name in kept if any(row[name] is not None for row in rows)]
    titles = [NAMES.get(name, name.replace("_", " ")) for name in columns]
    cells = [
        [draw_value(Cell(moment, row, name, task)) for name in columns]
        + ([draw_place(moment, row)] if has_place else [])
        for row in rows
    ]
    return make_table([*titles, "record"] if has_place else titles, cells, caption=caption)


def draw_place(moment: Moment, row: Row) -> h.Node:
    """The record that a row comes from, by its place."""
    topic, partition, offset = (row[name] for name in PLACE)
    if topic is None:
        return "–"
    link = moment.link_record(topic, partition=partition, offset=offset)
    return h.a(".id", href=link)[f"{topic}/{partition}@{offset}"]


def draw_value(cell: Cell) -> h.Node:
    """One value by the name of its column, else by its type."""
    value = cell.value
    if value is None:
        return "–"
    if (draw := _DRAWN.get(cell.name)) is not None:
        return draw(cell)
    match value:
        case datetime():
            return h.span(title=f"{value:%Y-%m-%d %H:%M:%S}")[format_clock(to_ms(value))]
        case bool():
            return "yes" if value else "no"
        case int() | float():
            return format_number(value)
    # Digests are told apart by their beginning, and copied from their title.
    text = str(value)
    return h.span(".id", title=text)[shorten(text)] if _is_digest(text) else text


def _is_digest(text: str) -> bool:
    return len(text) >= LONG and all(letter in "0123456789abcdef" for letter in text)


def _draw_version(cell: Cell) -> h.Node:
    owner = cell.row.get("task") or cell.task
    text = format_number(cell.value)
    return h.a(href=cell.moment.link_version(owner, cell.value))[text] if owner else text


def _draw_json(cell: Cell) -> h.Node:
    told = json.loads(cell.value) if isinstance(cell.value, str) else cell.value
    if not isinstance(told, Mapping):
        return format_value(told)
    return ", ".join(
        f"{name.replace('_', ' ')} {format_number(each) if isinstance(each, int | float) else each}"
        for name, each in told.items()
    )


def _draw_cohort(cell: Cell) -> h.Node:
    # A device may have none; a score without one is of all examples.
    return cell.value or h.em["all" if {"metric", "standing"} & cell.row.keys() else "none"]


def _draw_words(cell: Cell) -> h.Node:
    return str(cell.value).replace("_", " ")


_DRAWN: dict[str, Callable[[Cell], h.Node]] = {
    "task": lambda cell: h.a(href=cell.moment.link_task(cell.value))[cell.value],
    "device": lambda cell: draw_device(cell.moment, cell.value),
    "version": _draw_version,
    "base_version": _draw_version,
    "only_in": _draw_version,
    "cohort": _draw_cohort,
    "metrics": _draw_json,
    "counts": _draw_json,
    "model_bytes": lambda cell: format_bytes(cell.value),
    "body_bytes": lambda cell: format_bytes(cell.value),
    "held_s": lambda cell: format_seconds(cell.value),
    "staleness_mean": lambda cell: format_number(cell.value, digits=2),
    "outcome": _draw_words,
    "reason": _draw_words,
}
