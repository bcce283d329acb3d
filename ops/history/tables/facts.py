"""Facts: each kind of event as a table, whose columns are the event's fields and the place that it was read from.

The tables are derived from the events themselves, so that a new event is a new table, and nobody has to remember it.
Rows are only ever added: what stands in them was true from `at_ms` on, and stays so.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from types import UnionType
from typing import Any, Literal, get_args

import msgspec
from msgspec import inspect

from schemas.canonical import to_plain
from schemas.events import DeploymentFounded, JournalEvent, Noticed, TaskEvent, VersionEvaluated
from schemas.identifiers import BodyRef, Count, DeviceId, LeaseId, TaskId, Version
from schemas.journal import ChainResumed, WriterClaimed

Row = tuple[Any, ...]


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

    task: TaskId
    event: str


# Not by whom: nobody knows who a stranger is, and a zombie's claim stands in the same table as all others.
class PassedOver(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A record that every reader passes over: of a superseded writer, or of somebody who may not write there."""

    reason: Literal["zombie", "stranger"]
    record_bytes: Count


# Where a fact stands: its record, its number there, the input that it decides, log time, and append time.
PLACE = {
    "at_topic": "VARCHAR",
    "at_partition": "INTEGER",
    "at_offset": "BIGINT",
    "at_number": "INTEGER",
    "input_topic": "VARCHAR",
    "input_offset": "BIGINT",
    "log_ms": "BIGINT",
    "at_ms": "BIGINT",
}
# Which batch of this file stored it: the only column that another file of the same log has otherwise.
STORED = {"at_sequence": "BIGINT"}
# For operators only where a task is private: each says something about one device's data.
SECRETS = {"clip_scale", "zeroed", "body_sha256", "sum_sha256", "salt"}


@dataclass(frozen=True)
class Column:
    """One field of an event, or of a struct in it: how to read it, and what it is in SQL."""

    name: str
    sql: str
    path: tuple[str, ...]

    @cached_property
    def read(self) -> Callable[[Any], Any]:
        """Its value in an event, as the sink takes it."""
        convert = _CONVERTERS.get(self.sql, _keep)
        get = operator.attrgetter(self.path[0])
        if len(self.path) == 1:
            return lambda event: convert(get(event))
        inner = operator.attrgetter(self.path[1])
        return lambda event: None if (value := get(event)) is None else convert(inner(value))


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

    @cached_property
    def _readers(self) -> tuple[Callable[[Any], Any], ...]:
        return tuple(column.read for column in self.columns)

    @cached_property
    def _open_readers(self) -> tuple[Callable[[Any], Any], ...]:
        return tuple(_hide if column.name in SECRETS else column.read for column in self.columns)

    def make_row(self, place: Row, event: Any, *, is_secret: bool = False) -> Row:
        """The event as a row; `place` in the order of PLACE. `is_secret`: without what only operators may see."""
        readers = self._open_readers if is_secret else self._readers
        return (*place, *[read(event) for read in readers])


def _keep(value: Any) -> Any:
    return value


def _hide(event: Any) -> None:
    """What stands in place of a secret."""
    del event


def _format_text(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else value


def _format_json(value: Any) -> str | None:
    # A section that a policy leaves out is no JSON null.
    if value is None or value is msgspec.UNSET:
        return None
    return json.dumps(to_plain(value), ensure_ascii=False)


_CONVERTERS: dict[str, Callable[[Any], Any]] = {"VARCHAR": _format_text, "JSON": _format_json}
_SQL = {
    inspect.IntType: "BIGINT",
    inspect.FloatType: "DOUBLE",
    inspect.BoolType: "BOOLEAN",
    inspect.StrType: "VARCHAR",
    inspect.BytesType: "VARCHAR",
    inspect.LiteralType: "VARCHAR",
}


def _list_columns(kind: type[msgspec.Struct]) -> Iterator[Column]:
    for field in inspect.multi_type_info([kind])[0].fields:  # type: ignore[attr-defined]
        inner = _find_flat_struct(field.type)
        # What has parts is asked by its parts: `body_size`, not a value out of JSON.
        if inner is None:
            yield Column(field.name, _find_sql(field.type), (field.name,))
        else:
            for part in inner.fields:
                yield Column(f"{field.name}_{part.name}", _find_sql(part.type), (field.name, part.name))


def _strip_optional(found: inspect.Type) -> inspect.Type:
    if not isinstance(found, inspect.UnionType):
        return found
    others = [each for each in found.types if not isinstance(each, inspect.NoneType)]
    # A closed list of words may be written in several parts; all of it is text.
    if all(isinstance(each, inspect.LiteralType) for each in others) or len(others) == 1:
        return others[0]
    return found


def _find_flat_struct(found: inspect.Type) -> inspect.StructType | None:
    """A struct whose own fields are no structs: its fields are columns. A policy stays one value."""
    found = _strip_optional(found)
    if not isinstance(found, inspect.StructType) or found.array_like:
        return None
    is_flat = all(not isinstance(_strip_optional(part.type), inspect.StructType) for part in found.fields)
    return found if is_flat else None


def _find_sql(found: inspect.Type) -> str:
    return _SQL.get(type(_strip_optional(found)), "JSON")


def _list_kinds(*unions: Any) -> list[type[msgspec.Struct]]:
    return [kind for union in unions for kind in (get_args(union) if isinstance(union, UnionType) else (union,))]


def make_table(kind: type[msgspec.Struct]) -> FactTable:
    """The table of a kind of event."""
    return FactTable(kind, tuple(_list_columns(kind)))


# What devices and shard workers say is believed by nobody but the actor that decides it.
_SAID = _list_kinds(DeploymentFounded, TaskEvent, JournalEvent, VersionEvaluated, WriterClaimed, ChainResumed)
_KINDS = [kind for kind in _SAID if kind is not Noticed] + [Submission, NoticedFact, PassedOver]
FACTS = {kind: make_table(kind) for kind in _KINDS}
