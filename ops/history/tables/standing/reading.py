"""Facts back into the events that they were: the other half of `facts`."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from ops.history.tables.answers import HistoryUnfit
from ops.history.tables.facts import find_flat_struct, is_plain, strip_optional

E = TypeVar("E", bound=msgspec.Struct)


def read_event(kind: type[E], row: Mapping[str, Any]) -> E:
    """The event in a row of its table, whose JSON is decoded. Secrets that were left out are missing in it.

    Raises ValidationError where a field is missing that cannot be, HistoryUnfit where another release wrote the table.
    """
    plain: dict[str, Any] = {}
    # A process of another release may hold the file: it answers, and its tables have other columns.
    if missing := _list_names(kind) - row.keys():
        raise HistoryUnfit(f"The history is written by another release: it has no {missing.pop()} of {kind.__name__}.")
    for field, inner in _list_fields(kind):
        if inner is None:
            plain[field.name] = _revive(row[field.name], field.type)
        else:
            parts = {part.name: _revive(row[f"{field.name}_{part.name}"], part.type) for part in inner.fields}
            # No struct is a struct without anything in it.
            plain[field.name] = parts if any(part is not None for part in parts.values()) else None
        # A table has one word for nothing, and an event that leaves a field out has another.
        if plain[field.name] is None and _may_be_left_out(field):
            del plain[field.name]
    return msgspec.convert(plain, kind, builtin_types=(bytes,))


def _may_be_left_out(field: inspect.Field) -> bool:
    # What is unset has no default that could be looked at.
    return not field.required and field.default is msgspec.NODEFAULT and field.default_factory is msgspec.NODEFAULT


@functools.cache
def _list_names(kind: type[msgspec.Struct]) -> set[str]:
    """The columns that it needs."""
    return {
        name
        for field, inner in _list_fields(kind)
        for name in ([field.name] if inner is None else [f"{field.name}_{part.name}" for part in inner.fields])
    }


@functools.cache
def _list_fields(kind: type[msgspec.Struct]) -> list[tuple[inspect.Field, inspect.StructType | None]]:
    """Each field, and the struct whose fields are columns in its place."""
    # Of thousands of versions the kind is the same, and to look into it takes longer than to read one.
    found = inspect.multi_type_info([kind])[0].fields  # type: ignore[attr-defined]
    return [(field, find_flat_struct(field.type)) for field in found]


def _revive(value: Any, kind: inspect.Type) -> Any:
    """A value as JSON has it, with bytes where the event has bytes."""
    kind = strip_optional(kind)
    if value is None or is_plain(kind):
        return value
    match kind:
        case inspect.BytesType():
            return bytes.fromhex(value)
        case inspect.StructType() if kind.array_like:
            return [_revive(part, field.type) for part, field in zip(value, kind.fields, strict=False)]
        case inspect.StructType():
            kinds = {field.encode_name: field.type for field in kind.fields}
            return {name: _revive(part, kinds[name]) if name in kinds else part for name, part in value.items()}
        case inspect.ListType() | inspect.VarTupleType():
            return [_revive(part, kind.item_type) for part in value]
        case inspect.DictType():
            return {name: _revive(part, kind.value_type) for name, part in value.items()}
    return value
