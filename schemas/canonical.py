"""Bytes to values and back: strict and canonical msgpack, and upcasters for older versions of an event.

`decode` accepts exactly the bytes that `encode` would write: a map with a key twice, an extension type, a longer form
of a number, trailing bytes, NaN, are all refused, because re-encoding gives other bytes.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec

from schemas.errors import FedlogError

T = TypeVar("T")

JOURNAL_RECORD_BYTES_MAX = 512 * 1024
# Every actor notices a task in its own journal, so its creation has to fit into a record there.
TASK_BYTES_MAX = JOURNAL_RECORD_BYTES_MAX // 4 * 3

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]
UPCASTERS: dict[str, Upcaster] = {}  # from "Name/1" to the same event as "Name/2"; pure, applied until none fits


class MalformedError(FedlogError):
    """These bytes are not the canonical encoding of a value of that type."""

    code = "malformed"


_ENCODER = msgspec.msgpack.Encoder()
_DECODERS: dict[Any, msgspec.msgpack.Decoder[Any]] = {}
_DECODERS_LOCK = threading.Lock()
# A float64 whose exponent is all ones, or bytes that only look like one. The search spares almost every value the slow
# check of each number.
_NOT_FINITE = re.compile(rb"\xcb[\x7f\xff][\xf0-\xff]")


def encode(value: Any) -> bytes:
    """The one encoding of `value`. Raises MalformedError for NaN and infinities."""
    data = _ENCODER.encode(value)
    if _NOT_FINITE.search(data):
        _require_finite(value)
    return data


def decode(data: bytes, kind: type[T]) -> T:
    """The value of type `kind` that `encode` wrote as `data`. Raises MalformedError for any other bytes."""
    if len(data) > JOURNAL_RECORD_BYTES_MAX:
        raise MalformedError(f"{len(data)} bytes, at most {JOURNAL_RECORD_BYTES_MAX}")
    try:
        value: T = _decode_canonical(data, kind)
    except (MalformedError, ValueError, TypeError, RecursionError, msgspec.MsgspecError) as error:
        if UPCASTERS:
            # The form is checked before lifting, because lifted values have other bytes than those written.
            return _decode_older(data, kind)
        raise _to_malformed(error) from error
    return value


def encode_state(state: object) -> bytes:
    """The one encoding of an actor's state; its numbers come from events, where they were checked."""
    return _ENCODER.encode(state)


def decode_state(data: bytes, kind: type[T]) -> T:
    """The state that `encode_state` wrote as `data`, of any size; not for bytes from outside."""
    try:
        state: T = _decode_any_form(data, kind)
    except (ValueError, TypeError, RecursionError, msgspec.MsgspecError) as error:
        raise _to_malformed(error) from error
    if encode_state(state) != data:
        raise MalformedError("not the canonical encoding")
    return state


def _decode_canonical(data: bytes, kind: Any) -> Any:
    value = _decode_any_form(data, kind)
    if encode(value) != data:
        raise MalformedError("not the canonical encoding")
    return value


def _decode_any_form(data: bytes, kind: Any) -> Any:
    decoder = _DECODERS.get(kind)
    if decoder is None:
        # msgspec 0.22 crashes when two threads meet a type for the first time at once.
        with _DECODERS_LOCK:
            decoder = _DECODERS.setdefault(kind, msgspec.msgpack.Decoder(kind))
    return decoder.decode(data)


def _decode_older(data: bytes, kind: type[T]) -> T:
    """The newest version of an event that was written in an older one."""
    try:
        return msgspec.convert(_upcast(_decode_canonical(data, Any)), kind, builtin_types=(bytes,))
    except (MalformedError, ValueError, TypeError, RecursionError, msgspec.MsgspecError) as error:
        raise _to_malformed(error) from error


def _to_malformed(error: Exception) -> MalformedError:
    return error if isinstance(error, MalformedError) else MalformedError(f"{type(error).__name__}: {error}")


def _require_finite(value: Any) -> None:
    try:
        json.dumps(msgspec.to_builtins(value), allow_nan=False)
    except ValueError as error:
        raise MalformedError("a number is not finite") from error


def _upcast(plain: Any) -> Any:
    """Lift every event in `plain` to its newest version; the same object when there is nothing to lift."""
    if not UPCASTERS:
        return plain
    if isinstance(plain, dict):
        lifted = {key: _upcast(value) for key, value in plain.items()}
        while (caster := UPCASTERS.get(lifted.get("type", ""))) is not None:
            lifted = caster(lifted)
        return plain if lifted == plain else lifted
    if isinstance(plain, list):
        items = [_upcast(value) for value in plain]
        return plain if items == plain else items
    return plain


def to_plain(value: Any) -> Mapping[str, Any]:
    """`value` as JSON types for people: bytes become hex."""
    converted: Mapping[str, Any] = _replace_bytes(msgspec.to_builtins(value, builtin_types=(bytes,)))
    return converted


def _replace_bytes(value: Any) -> Any:
    # Leaves first: of what an event holds most are, and a long list of events is nothing else.
    if (kind := type(value)) is str or kind is int:
        return value
    if kind is dict:
        return {key: _replace_bytes(item) for key, item in value.items()}
    if kind is bytes:
        return value.hex()
    return [_replace_bytes(item) for item in value] if kind in (list, tuple) else value
