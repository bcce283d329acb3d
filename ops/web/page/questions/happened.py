"""What happened: events by task, device, kind and reason, the newest first; a record, its cause, and what it caused."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ops.history.tables.facts import FACTS, PLACE, FactTable
from ops.web.page.moment import Moment, Row

PAGE_ROWS = 50
# By what one looks for an event; a kind without any of a filter's columns has no such event.
_COLUMNS = {"task": ("task",), "device": ("device",), "reason": ("reason", "outcome", "zeroed")}
_BEFORE = """(at_ms, at_topic, at_partition, at_offset, at_number)
    < ($before_ms::BIGINT, $before_topic, $before_partition::INTEGER, $before_offset::BIGINT, $before_number::INT)"""
_ORDER = "at_ms DESC, at_topic DESC, at_partition DESC, at_offset DESC, at_number DESC"


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """What one looks for; empty words look for all. `before`: the place after which the next page begins."""

    task: str = ""
    device: str = ""
    kind: str = ""
    reason: str = ""
    before: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Happened:
    """One event, with its place and that of the input that it decides."""

    kind: str
    task: str | None
    at_ms: int
    log_ms: int
    topic: str
    partition: int
    offset: int
    number: int
    input_topic: str | None
    input_offset: int | None
    values: dict[str, Any]

    @property
    def key(self) -> str:
        """Its place in the order of time, as an address holds it."""
        return f"{self.at_ms}.{self.topic}.{self.partition}.{self.offset}.{self.number}"


@functools.cache
def list_kinds() -> list[str]:
    """The names of all kinds of events."""
    return sorted(table.event for table in FACTS.values())


def list_events(moment: Moment, asked: Filter, *, limit: int = PAGE_ROWS) -> list[Happened]:
    """The newest events that a filter lets through, one more than `limit` where there are more."""
    tables = list(_choose_tables(asked))
    # A filter by what no chosen kind has finds nothing, and asks nothing.
    if not tables:
        return []
    parameters: dict[str, object] = {"limit": limit + 1}
    parameters |= {name: value for name in _COLUMNS if (value := getattr(asked, name))}
    before = _parse_key(asked.before)
    if before is not None:
        parameters |= before
    conditions = [] if before is None else [_BEFORE]
    # Each kind gives its newest before any of them becomes JSON, or a million rows would.
    union = " UNION ALL ".join(_ask_table(table, asked, conditions=conditions) for table in tables)
    return [_read(row) for row in moment.ask(f"FROM ({union}) ORDER BY {_ORDER} LIMIT $limit", **parameters)]


def read_record(moment: Moment, topic: str, *, partition: int, offset: int) -> list[Happened]:
    """The events of one record, in their order."""
    where = ["at_topic = $topic", "at_partition = $partition", "at_offset = $offset"]
    return _read_where(moment, where, topic=topic, partition=partition, offset=offset)


def list_caused(moment: Moment, topic: str, *, partition: int, offset: int) -> list[Happened]:
    """The events that were decided on a record as their input."""
    where = ["input_topic = $topic", "at_partition = $partition", "input_offset = $offset"]
    return _read_where(moment, where, topic=topic, partition=partition, offset=offset)


def _read_where(moment: Moment, where: Sequence[str], **parameters: object) -> list[Happened]:
    union = " UNION ALL ".join(_ask_table(table, Filter(), conditions=where) for table in FACTS.values())
    rows = moment.ask(f"FROM ({union}) ORDER BY at_topic, at_offset, at_number LIMIT $limit", limit=500, **parameters)
    return [_read(row) for row in rows]


def _choose_tables(asked: Filter) -> Iterator[FactTable]:
    for table in FACTS.values():
        named = {column.name for column in table.columns}
        wanted = [columns for name, columns in _COLUMNS.items() if getattr(asked, name)]
        if asked.kind in ("", table.event) and all(named & {*columns} for columns in wanted):
            yield table


def _ask_table(table: FactTable, asked: Filter, *, conditions: Sequence[str]) -> str:
    named = [column.name for column in table.columns]
    where = list(conditions)
    for name, columns in _COLUMNS.items():
        if getattr(asked, name):
            where.append("(" + " OR ".join(f"{column} = ${name}" for column in columns if column in named) + ")")
    # A struct of the columns, so that the names of the fields come along.
    values = ", ".join(f"'{name}': \"{name}\"" for name in named)
    task = "task" if "task" in named else "NULL::VARCHAR"
    filtered = f"FROM facts.{table.name}{' WHERE ' + ' AND '.join(where) if where else ''}"
    return (
        f"SELECT {', '.join(PLACE)}, '{table.event}' AS kind, {task} AS task, to_json({{{values}}}) AS told "
        f"FROM ({filtered} ORDER BY {_ORDER} LIMIT $limit)"
    )


def _parse_key(text: str) -> dict[str, object] | None:
    parts = text.split(".")
    # What an address holds is a number or nothing; it never becomes a part of a question.
    numbers = [parts[0], *parts[2:]]
    if len(parts) != 5 or not all(part.isascii() and part.isdecimal() and len(part) <= 15 for part in numbers):
        return None
    return {
        "before_ms": int(parts[0]),
        "before_topic": parts[1],
        "before_partition": int(parts[2]),
        "before_offset": int(parts[3]),
        "before_number": int(parts[4]),
    }


def _read(row: Row) -> Happened:
    return Happened(
        kind=row["kind"],
        task=row["task"],
        at_ms=row["at_ms"],
        log_ms=row["log_ms"],
        topic=row["at_topic"],
        partition=row["at_partition"],
        offset=row["at_offset"],
        number=row["at_number"],
        input_topic=row["input_topic"],
        input_offset=row["input_offset"],
        # What a viewer may not see is None in the history, and says nothing here.
        values={name: value for name, value in json.loads(row["told"]).items() if value is not None},
    )
