"""Facts back into the events that they were: the other half of `facts`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from ops.history.tables.answers import HistoryUnfit
from ops.history.tables.facts import find_flat_struct, is_plain, strip_optional

E = TypeVar("E", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class _Value:
    """One column, as one value of an event; `revive` is None where it stands there as it is in the event."""

    name: str
    column: str
    revive: Callable[[Any], Any] | None

    @classmethod
    def make(cls, field: inspect.Field, column: str) -> _Value:
        """The value of a field that is a column."""
        return cls(field.name, column, _make_reviver(field.type))

    def read(self, row: Mapping[str, Any]) -> Any:
        """What the event had there."""
        return _revive(row[self.column], self.revive)


@dataclass(frozen=True, slots=True)
class _Field:
    """A field of an event: one value, or a struct whose fields are columns in its place."""

    name: str
    values: tuple[_Value, ...]
    is_struct: bool
    may_be_left_out: bool

    def read(self, row: Mapping[str, Any]) -> Any:
        """What the event had there."""
        if not self.is_struct:
            return self.values[0].read(row)
        parts = {value.name: value.read(row) for value in self.values}
        # No struct is a struct without anything in it.
        return parts if any(part is not None for part in parts.values()) else None


def read_event(kind: type[E], row: Mapping[str, Any]) -> E:
    """The event in a row of its table, whose JSON is decoded. Secrets that were left out are missing in it.

    Raises ValidationError where a field is missing that cannot be, HistoryUnfit where another release wrote the table.
    """
    # A process of another release may hold the file: it answers, and its tables have other columns.
    if missing := _list_names(kind) - row.keys():
        raise HistoryUnfit(f"The history is written by another release: it has no {min(missing)} of {kind.__name__}.")
    plain: dict[str, Any] = {}
    for field in _list_fields(kind):
        value = field.read(row)
        # A table has one word for nothing, and an event that leaves a field out has another.
        if value is not None or not field.may_be_left_out:
            plain[field.name] = value
    return msgspec.convert(plain, kind, builtin_types=(bytes,))


def _may_be_left_out(field: inspect.Field) -> bool:
    # What is unset has no default that could be looked at.
    return not field.required and field.default is msgspec.NODEFAULT and field.default_factory is msgspec.NODEFAULT


@functools.cache
def _list_names(kind: type[msgspec.Struct]) -> frozenset[str]:
    """The columns that it needs."""
    return frozenset(value.column for field in _list_fields(kind) for value in field.values)


@functools.cache
def _list_fields(kind: type[msgspec.Struct]) -> tuple[_Field, ...]:
    # Of thousands of versions the kind is the same, and to look into it takes longer than to read one.
    return tuple(map(_make_field, inspect.multi_type_info([kind])[0].fields))  # type: ignore[attr-defined]


def _make_field(field: inspect.Field) -> _Field:
    inner = find_flat_struct(field.type)
    if inner is None:
        values: tuple[_Value, ...] = (_Value.make(field, field.name),)
    else:
        values = tuple(_Value.make(part, f"{field.name}_{part.name}") for part in inner.fields)
    return _Field(field.name, values, inner is not None, _may_be_left_out(field))


def _make_reviver(kind: inspect.Type) -> Callable[[Any], Any] | None:
    """What turns a value as JSON has it into one with bytes where the event has bytes; None where nothing is to do."""
    # Decided once for a kind of event, and not for each of its thousands of rows.
    kind = strip_optional(kind)
    if is_plain(kind):
        return None
    match kind:
        case inspect.BytesType():
            return bytes.fromhex
        case inspect.StructType() if kind.array_like:
            parts = [_make_reviver(field.type) for field in kind.fields]
            return lambda value: [_revive(part, revive) for part, revive in zip(value, parts, strict=False)]
        case inspect.StructType():
            named = {field.encode_name: _make_reviver(field.type) for field in kind.fields}
            return lambda value: {name: _revive(part, named.get(name)) for name, part in value.items()}
        case inspect.ListType() | inspect.VarTupleType():
            item = _make_reviver(kind.item_type)
            return lambda value: [_revive(part, item) for part in value]
        case inspect.DictType():
            item = _make_reviver(kind.value_type)
            return lambda value: {name: _revive(part, item) for name, part in value.items()}
    return None


def _revive(value: Any, revive: Callable[[Any], Any] | None) -> Any:
    return value if value is None or revive is None else revive(value)
