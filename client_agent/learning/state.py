"""What a device's learner remembers from one lease to the next, as bytes in its outbox."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from client_agent.learning.foreign import LearnerError

_ARRAY = 1  # the extension type of an array: its dtype, shape and bytes


def encode_state(state: dict[str, Any]) -> bytes:
    """The bytes of a state. Raises LearnerError for a value that cannot be kept."""
    try:
        return msgspec.msgpack.encode(state, enc_hook=_encode_array)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise LearnerError(
            f"the learner's state cannot be kept ({error}); it may hold arrays, numbers, texts, bytes, and lists and "
            "dictionaries of these"
        ) from error


def decode_state(data: bytes) -> dict[str, Any]:
    """The state in bytes of this device's own outbox; its arrays are writable."""
    return msgspec.msgpack.decode(data, type=dict[str, Any], ext_hook=_decode_array)


def _encode_array(value: Any) -> msgspec.msgpack.Ext:
    # A number that numpy made looks like any other, and whoever counts with numpy keeps such numbers.
    if isinstance(value, np.generic):
        value = np.asarray(value)
    if not isinstance(value, np.ndarray) or value.dtype.hasobject:
        raise TypeError(f"a {type(value).__name__}")
    told = (value.dtype.str, value.shape, np.ascontiguousarray(value).tobytes())
    return msgspec.msgpack.Ext(_ARRAY, msgspec.msgpack.encode(told))


def _decode_array(code: int, data: memoryview) -> Any:
    if code != _ARRAY:
        raise LearnerError(f"the learner's state holds an unknown extension {code}")
    dtype, shape, raw = msgspec.msgpack.decode(data, type=tuple[str, tuple[int, ...], bytes])
    # A copy, because a learner goes on counting in the very array.
    return np.frombuffer(raw, dtype).reshape(shape).copy()
