"""Facts: each kind of event as a table, whose columns are the event's fields and the place that it was read from.

The tables are derived from the events themselves, so that a new event is a new table, and nobody has to remember it.
Rows are only ever added: what stands in them was true from `at_ms` on, and stays so.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import UnionType
from typing import Any, Literal, get_args

import msgspec
from msgspec import inspect

from schemas.canonical import to_plain
from schemas.events import DeploymentFounded, JournalEvent, Noticed, TaskEvent, VersionEvaluated
from schemas.identifiers import BodyRef, Count, DeviceId, LeaseId, TaskId, Version
from schemas.journal import WriterClaimed

Row = tuple[Any, ...]
# Values by the name of their column; all lists are equally long.
Columns = dict[str, list[Any]]


class Submission(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An update as its device sent it. It counts where a decision names its place, and is nothing elsewhere."""

    task: TaskId
    lease: LeaseId
    device: DeviceId
    version: Version
    samples: Count
    record_bytes: Count
    body: BodyRef


class NoticedFact(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An actor has read another's event, which stands as a whole where it was written; here is its name."""

    task: TaskId | None
    event: str


# Not by whom: nobody knows who a stranger is, and a zombie's claim stands in the same table as all others.
class PassedOver(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A record that every reader passes over: of a superseded writer, or of somebody who may not write there."""

    reason: Literal["zombie", "stranger"]
    record_bytes: Count


class StatisticReleased(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One statistic of a measure task's release, out of the body that the release names, flat and in its order.

    No event has it: `numbers` is None where the body was gone when this history was built, or is very large.
    """

    task: TaskId
    version: Version
    statistic: str
    numbers: tuple[float, ...] | None


# Where a fact stands: its record, its number there, the input that it decides (a message, by its number in a record
# that holds many), log time, and append time.
PLACE = {
    "at_topic": "VARCHAR",
    "at_partition": "INTEGER",
    "at_offset": "BIGINT",
    "at_number": "INTEGER",
    "input_topic": "VARCHAR",
    "input_offset": "BIGINT",
    "input_number": "INTEGER",
    "log_ms": "BIGINT",
    "at_ms": "BIGINT",
}
# Which batch of this file stored it: the only column that another file of the same log has otherwise.
STORED = {"at_sequence": "BIGINT"}
# For operators only where a task is private: each says something about one device's data.
SECRETS = {"clip_scale", "zeroed", "body_sha256", "sum_sha256", "salt"}


@dataclass(frozen=True)
class Column:
    """One field of an event, or of a struct in it: what it is in SQL, how to find it and how to write it."""

    name: str
    sql: str
    path: tuple[str, ...]
    convert: Callable[[Any], Any] | None = None

    def read(self, events: Sequence[Any]) -> list[Any]:
        """Its values in some events, as a sink takes them."""
        # One column of many events at a time: a call for each value would cost more than all the rest.
        values: Iterator[Any] = map(operator.attrgetter(self.path[0]), events)
        for name in self.path[1:]:
            inner = operator.attrgetter(name)
            values = (None if value is None or value is msgspec.UNSET else inner(value) for value in values)
        if (convert := self.convert) is None:
            # What an event leaves out is nothing, as what is None.
            return [None if value is msgspec.UNSET else value for value in values]
        return [None if value is None or value is msgspec.UNSET else convert(value) for value in values]


@dataclass(frozen=True)
class FactTable:
    """The table of one kind of event."""

    kind: type[msgspec.Struct]
    columns: tuple[Column, ...]

    @property
    def event(self) -> str:
        """The event's name."""
        return self.kind.__name__

    @cached_property
    def name(self) -> str:
        """`UpdateAdmitted` is `update_admitted`."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", self.event).lower()

    @cached_property
    def definition(self) -> dict[str, str]:
        """Every column with its type in SQL; those of the place come first."""
        return {**PLACE, **{column.name: column.sql for column in self.columns}}

    def make_columns(self, places: Sequence[Row], events: Sequence[Any], *, is_secret: bool = False) -> Columns:
        """The events at these places as columns of equal length, in the order of `definition`.

        `is_secret`: without what only operators may see.
        """
        columns: Columns = {name: [*values] for name, values in zip(PLACE, zip(*places, strict=True), strict=True)}
        for column in self.columns:
            is_hidden = is_secret and column.name in SECRETS
            columns[column.name] = [None] * len(events) if is_hidden else column.read(events)
        return columns


def _format_json(value: Any) -> str:
    return json.dumps(to_plain(value), ensure_ascii=False)


def _format_plain_json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


_SQL = {
    inspect.IntType: "BIGINT",
    inspect.FloatType: "DOUBLE",
    inspect.BoolType: "BOOLEAN",
    inspect.StrType: "VARCHAR",
    inspect.BytesType: "VARCHAR",
    inspect.LiteralType: "VARCHAR",
}


def _list_columns(fields: Sequence[inspect.Field]) -> Iterator[Column]:
    for field in fields:
        inner = find_flat_struct(field.type)
        # What has parts is asked by its parts: `body_size`, not a value out of JSON.
        if inner is None:
            yield _make_column(field.type, (field.name,))
        else:
            for part in inner.fields:
                yield _make_column(part.type, (field.name, part.name))


def _make_column(kind: inspect.Type, path: tuple[str, ...]) -> Column:
    kind = strip_optional(kind)
    sql = _SQL.get(type(kind), "JSON")
    convert: Callable[[Any], Any] | None = None
    if isinstance(kind, inspect.BytesType):
        convert = bytes.hex
    elif sql == "JSON":
        convert = _format_plain_json if is_plain(kind) else _format_json
    return Column("_".join(path), sql, path, convert)


def is_plain(kind: inspect.Type) -> bool:
    """Whether a value's JSON needs nobody's help: lists and maps of numbers and text, in which no bytes can be."""
    match kind:
        case inspect.ListType() | inspect.VarTupleType():
            return is_plain(kind.item_type)
        case inspect.DictType():
            return isinstance(kind.key_type, inspect.StrType | inspect.LiteralType) and is_plain(kind.value_type)
        case _:
            return type(kind) in _SQL and not isinstance(kind, inspect.BytesType)


def strip_optional(found: inspect.Type) -> inspect.Type:
    if not isinstance(found, inspect.UnionType):
        return found
    others = [each for each in found.types if not isinstance(each, inspect.NoneType)]
    # A closed list of words may be written in several parts; all of it is text.
    if all(isinstance(each, inspect.LiteralType) for each in others) or len(others) == 1:
        return others[0]
    return found


def find_flat_struct(found: inspect.Type) -> inspect.StructType | None:
    """A struct whose own fields are no structs: its fields are columns. A policy stays one value."""
    found = strip_optional(found)
    if not isinstance(found, inspect.StructType) or found.array_like:
        return None
    is_flat = all(not isinstance(strip_optional(part.type), inspect.StructType) for part in found.fields)
    return found if is_flat else None


def _list_kinds(*unions: Any) -> list[type[msgspec.Struct]]:
    return [kind for union in unions for kind in (get_args(union) if isinstance(union, UnionType) else (union,))]


def make_tables(kinds: Sequence[type[msgspec.Struct]]) -> dict[type[msgspec.Struct], FactTable]:
    """The tables of kinds of events."""
    # All at once: what stands in many events is looked into once, in every command that asks a history.
    found = inspect.multi_type_info(kinds)
    return {
        kind: FactTable(kind, tuple(_list_columns(info.fields)))  # type: ignore[attr-defined]
        for kind, info in zip(kinds, found, strict=True)
    }


# What devices and shard workers say is believed by nobody but the actor that decides it.
_SAID = _list_kinds(DeploymentFounded, TaskEvent, JournalEvent, VersionEvaluated, WriterClaimed)
_KINDS = [kind for kind in _SAID if kind is not Noticed] + [Submission, NoticedFact, PassedOver, StatisticReleased]
FACTS = make_tables(_KINDS)
