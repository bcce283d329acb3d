"""Facts back into the events that they were: the other half of `facts`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from ops.history.tables.facts import find_flat_struct, is_plain, strip_optional

E = TypeVar("E", bound=msgspec.Struct)


def read_event(kind: type[E], row: Mapping[str, Any]) -> E:
    """The event in a row of its table, whose JSON is decoded. Secrets that were left out are missing in it.

    Raises ValidationError where a field is missing that cannot be.
    """
    plain: dict[str, Any] = {}
    for field in inspect.multi_type_info([kind])[0].fields:  # type: ignore[attr-defined]
        inner = find_flat_struct(field.type)
        if inner is None:
            plain[field.name] = _revive(row[field.name], field.type)
        else:
            parts = {part.name: _revive(row[f"{field.name}_{part.name}"], part.type) for part in inner.fields}
            # No struct is a struct without anything in it.
            plain[field.name] = parts if any(part is not None for part in parts.values()) else None
    return msgspec.convert(plain, kind, builtin_types=(bytes,))


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
