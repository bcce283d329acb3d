"""A body is one zstd frame around a payload of known length: models, moments and sums are plain vectors in it."""

from __future__ import annotations

import hashlib
import threading
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import zstandard

from schemas.errors import EXIT_LOST, FedlogError

# Beyond it no device trains from a model, and a task whose model holds such a value has diverged.
VALUE_MAX = 1e6

Floats = npt.NDArray[np.float32]
DecodeFault = Literal["body_malformed", "body_shape", "not_finite", "out_of_grid", "not_opened"]

ZSTD_LEVEL = 1
# Level 1 makes models and moments 7 % shorter, and takes seven times as long to write and thirty to read.
ZSTD_LEVEL_FAST = -1
# As good as a copy: nothing is looked for, and the frame is one that any reader takes.
ZSTD_LEVEL_NONE = -(1 << 17)
WINDOW_BYTES_MAX = 1 << 23
_KEPT = threading.local()


class BodyError(FedlogError):
    """The bytes are not a body of this codec and size; `fault` is the reason that an event can carry."""

    exit_code = EXIT_LOST
    code = "body_invalid"

    def __init__(self, fault: DecodeFault, detail: str) -> None:
        super().__init__(f"{fault}: {detail}")
        self.fault: DecodeFault = fault


def compress(payload: bytes | memoryview, level: int = ZSTD_LEVEL) -> bytes:
    """One zstd frame that declares the payload's size."""
    return zstandard.ZstdCompressor(level=level).compress(payload)


def decompress(data: bytes, size: int) -> bytes:
    """Exactly `size` bytes out of exactly one frame; never allocates more. Raises BodyError.

    Where `size` is not ours but was read beside the frame, see `hash_payload` first.
    """
    try:
        _check_frame(data, size)
        # It allocates the declared size, which was checked above, and fails on a frame that holds more. Bytes behind
        # the frame are refused, because a device would have signed what no reader looks at.
        payload = _keep_decompressor().decompress(data, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise BodyError("body_malformed", str(error)) from error
    if len(payload) != size:
        raise BodyError("body_malformed", f"{len(payload)} bytes in the frame, expected {size}")
    return payload


def decompress_model(data: bytes, *, size_max: int) -> bytes:
    """The payload of a frame whose size is told nowhere else; at most `size_max` bytes. Raises BodyError."""
    try:
        declared = zstandard.get_frame_parameters(data).content_size
    except zstandard.ZstdError as error:
        raise BodyError("body_malformed", str(error)) from error
    if declared > size_max:
        raise BodyError("body_shape", f"declares {declared} bytes, at most {size_max}")
    return decompress(data, declared)


def hash_payload(data: bytes, size: int) -> bytes:
    """The sha256 of the `size` bytes in a frame, read piece by piece: nothing is taken for what is only declared.

    Raises BodyError.
    """
    digest, found = hashlib.sha256(), 0
    try:
        _check_frame(data, size)
        for piece in _make_decompressor().read_to_iter(data):
            digest.update(piece)
            found += len(piece)
    except zstandard.ZstdError as error:
        raise BodyError("body_malformed", str(error)) from error
    if found != size:
        raise BodyError("body_malformed", f"{found} bytes in the frame, expected {size}")
    return digest.digest()


def _check_frame(data: bytes, size: int) -> None:
    """Look at the head of a frame alone, which has to say `size` bytes. Raises BodyError, ZstdError."""
    frame = zstandard.get_frame_parameters(data)
    if frame.content_size != size:
        raise BodyError("body_shape", f"declares {frame.content_size} bytes, expected {size}")
    if frame.window_size > WINDOW_BYTES_MAX or frame.dict_id:
        raise BodyError("body_malformed", "window above 8 MiB, or a dictionary")


def _make_decompressor() -> zstandard.ZstdDecompressor:
    return zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES_MAX)


def _keep_decompressor() -> zstandard.ZstdDecompressor:
    """One for each thread; zstd forgets all of a frame, whole or broken, before it opens the next."""
    # A new one takes four times as long as it then needs to open a small body.
    kept: zstandard.ZstdDecompressor | None = getattr(_KEPT, "decompressor", None)
    if kept is None:
        kept = _KEPT.decompressor = _make_decompressor()
    return kept


def pack(array: npt.NDArray[Any], level: int = ZSTD_LEVEL_FAST) -> bytes:
    """A vector (model, moments) as a body; any level can be read."""
    return compress(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).view(np.uint8).data, level)


def model_bytes_max(parameters: int) -> int:
    """No body of a float32 vector of this length is longer (zstd's worst case for incompressible input)."""
    return compute_frame_bytes_max(4 * parameters)


def compute_frame_bytes_max(size: int) -> int:
    """No frame around a payload of `size` bytes is longer."""
    return size + (size >> 8) + 1024


def unpack(data: bytes, codec: str, *, count: int) -> npt.NDArray[Any]:
    """The array that `pack` wrote; codec "float32" or "int64". Raises BodyError."""
    dtype = np.dtype({"float32": "<f4", "int64": "<i8"}[codec])
    return np.frombuffer(decompress(data, count * dtype.itemsize), dtype)
