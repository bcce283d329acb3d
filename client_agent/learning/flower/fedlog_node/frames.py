"""Messages between fedlog and the process of a Flower app: JSON, and behind it arrays and bytes as they are.

A frame is its length, the length of its JSON, the JSON, and the raw bytes that the JSON points to. No pickle: the app's
side runs other people's code, and must not make fedlog's side run any.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

_LENGTHS = struct.Struct(">QI")
HEAD_BYTES = _LENGTHS.size
# Far above any model that a device holds; a wrong length must not make the reader take all memory.
FRAME_BYTES_MAX = 1 << 36

# What stands in the JSON for bytes, and for an array.
_BYTES, _ARRAY = "$bytes", "$array"


class FrameError(Exception):
    """What came is no frame; the two halves are of different releases, or something else wrote into the pipe."""


def encode_frame(content: dict[str, Any]) -> bytes:
    """The frame of a dictionary of JSON values, numpy arrays and bytes, at any depth."""
    parts: list[bytes] = []
    told = json.dumps(_replace(content, parts)).encode()
    size = len(told) + sum(map(len, parts))
    return b"".join([_LENGTHS.pack(size, len(told)), told, *parts])


def read_length(head: bytes) -> int:
    """How many bytes follow the head of a frame. Raises FrameError."""
    size, told = _LENGTHS.unpack(head)
    if told > size or size > FRAME_BYTES_MAX:
        raise FrameError(f"a frame of {size} bytes, {told} of them JSON")
    return int(size)


def decode_frame(head: bytes, rest: bytes) -> dict[str, Any]:
    """The dictionary of a frame; its arrays are writable copies. Raises FrameError."""
    _, told = _LENGTHS.unpack(head)
    try:
        content = _restore(json.loads(rest[:told]), memoryview(rest)[told:])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise FrameError(f"a frame that cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise FrameError(f"a frame of a {type(content).__name__}")
    return content


def _replace(value: Any, parts: list[bytes]) -> Any:
    """`value` as JSON, with its bytes moved to `parts`."""
    if isinstance(value, dict):
        return {str(name): _replace(item, parts) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_replace(item, parts) for item in value]
    if isinstance(value, np.ndarray):
        if value.dtype.hasobject:
            raise FrameError("an array of objects")
        begin = _append(parts, np.ascontiguousarray(value).tobytes())
        return {_ARRAY: [value.dtype.str, list(value.shape), *begin]}
    if isinstance(value, bytes):
        return {_BYTES: _append(parts, value)}
    return value.item() if isinstance(value, np.generic) else value


def _append(parts: list[bytes], data: bytes) -> list[int]:
    begin = sum(map(len, parts))
    parts.append(data)
    return [begin, len(data)]


def _restore(value: Any, data: memoryview) -> Any:
    if isinstance(value, list):
        return [_restore(item, data) for item in value]
    if not isinstance(value, dict):
        return value
    if _BYTES in value:
        begin, size = value[_BYTES]
        return bytes(data[begin : begin + size])
    if _ARRAY in value:
        dtype, shape, begin, size = value[_ARRAY]
        kind = np.dtype(dtype)
        if kind.hasobject:
            raise FrameError("an array of objects")
        return np.frombuffer(data[begin : begin + size], kind).reshape(shape).copy()
    return {name: _restore(item, data) for name, item in value.items()}


def list_frames(read: Any) -> Iterator[dict[str, Any]]:
    """The frames of a stream, until it ends; `read(n)` gives n bytes, or fewer at the end."""
    while len(head := read(HEAD_BYTES)) == HEAD_BYTES:
        size = read_length(head)
        if len(rest := read(size)) < size:
            return
        yield decode_frame(head, rest)
