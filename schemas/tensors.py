"""Bytes to parameters and back: each codec's two halves side by side; decoding is bounded whatever the bytes are.

A body is one zstd frame around a payload of known length. Payloads of an update of d parameters, little-endian:

    float32   d x f4                          the delta itself
    float16   d x f2                          the delta / the clip norm
    int8      ceil(d / 4096) x u4, d x i1     a multiplier for each block of 4096, then grid units / multiplier
    int4      ceil(d / 4096) x u4, h x u1     the same in 4 bits: h = ceil(d / 2), byte i holds element i in its low
                                              half and element h + i, or zero, in its high one
    topk      u4, k x u4, k x i1              one multiplier, the gaps between the k indices, grid units / multiplier

Every codec decodes to grid units: whole multiples of the policy's step (law 6).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import zstandard

from schemas.errors import EXIT_LOST, FedlogError
from schemas.policy import Clipping, Compression, Policy

Grid = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
DecodeFault = Literal["body_malformed", "body_shape", "not_finite", "out_of_grid"]

ZSTD_LEVEL = 1
# Level 1 makes models and moments 7 % shorter, and takes seven times as long to write and thirty to read.
ZSTD_LEVEL_MODELS = -1
WINDOW_BYTES_MAX = 1 << 23
BLOCK = 4096
_LARGEST = {"int8": 127, "int4": 7, "topk": 127}  # as an encoder writes it; -128 and -8 are read too
_AT_ONCE = 1 << 16  # elements whose intermediate results stay in a core's own cache


class BodyError(FedlogError):
    """The bytes are not a body of this codec and size; `fault` is the reason that an event can carry."""

    exit_code = EXIT_LOST
    code = "body_invalid"

    def __init__(self, fault: DecodeFault, detail: str) -> None:
        super().__init__(f"{fault}: {detail}")
        self.fault: DecodeFault = fault


# --- the frame ------------------------------------------------------------------------------------------------------


def compress(payload: bytes | memoryview, level: int = ZSTD_LEVEL) -> bytes:
    """One zstd frame that declares the payload's size."""
    return zstandard.ZstdCompressor(level=level).compress(payload)


def decompress(data: bytes, size: int) -> bytes:
    """Exactly `size` bytes out of exactly one frame; never allocates more. Raises BodyError."""
    try:
        frame = zstandard.get_frame_parameters(data)
        if frame.content_size != size:
            raise BodyError("body_shape", f"declares {frame.content_size} bytes, expected {size}")
        if frame.window_size > WINDOW_BYTES_MAX or frame.dict_id:
            raise BodyError("body_malformed", "window above 8 MiB, or a dictionary")
        decompressor = zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES_MAX)
        # It allocates the declared size, which was checked above, and fails on a frame that holds more; bytes behind
        # the frame would be signed by a device and read by nobody.
        payload = decompressor.decompress(data, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise BodyError("body_malformed", str(error)) from error
    if len(payload) != size:
        raise BodyError("body_malformed", f"{len(payload)} bytes in the frame, expected {size}")
    return payload


def pack(array: npt.NDArray[Any], level: int = ZSTD_LEVEL_MODELS) -> bytes:
    """A vector (model, moments) as a body; any level can be read."""
    return compress(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).view(np.uint8).data, level)


def unpack(data: bytes, codec: str, *, count: int) -> npt.NDArray[Any]:
    """The array that `pack` wrote; codec "float32" or "int64". Raises BodyError."""
    dtype = np.dtype({"float32": "<f4", "int64": "<i8"}[codec])
    return np.frombuffer(decompress(data, count * dtype.itemsize), dtype)


# --- updates --------------------------------------------------------------------------------------------------------


def payload_bytes(compression: Compression, parameters: int) -> int:
    """The length of an update's payload before zstd."""
    match compression.codec:
        case "float32":
            return 4 * parameters
        case "float16":
            return 2 * parameters
        case "int4":
            return 4 * _blocks(parameters) + _half(parameters)
        case "int8":
            return 4 * _blocks(parameters) + parameters
        case "topk":
            return 4 + 5 * _kept(compression, parameters)


def body_bytes_max(compression: Compression, parameters: int) -> int:
    """No body of an update is longer than this (zstd's worst case for incompressible input)."""
    size = payload_bytes(compression, parameters)
    return size + (size >> 8) + 1024


def encode_update(delta: Floats, policy: Policy) -> bytes:
    """The body of an update. `delta` has shape (parameters,), in the parameters' units, each within twice the clip."""
    compression = policy.compression
    if compression.codec == "float32":
        return pack(delta, ZSTD_LEVEL)
    if compression.codec == "float16":
        return pack((delta / policy.clipping.norm).astype("<f2"), ZSTD_LEVEL)
    largest = _LARGEST[compression.codec]
    if compression.codec != "topk":
        values, multipliers = _shortened(delta, policy.clipping, largest=largest)
        packed = values if compression.codec == "int8" else _folded(values)
        return compress(multipliers.tobytes() + packed.tobytes())
    grid = to_grid(delta, policy.clipping)
    kept = _kept(compression, grid.size)
    indices = np.sort(np.argpartition(-np.abs(grid), kept - 1)[:kept])
    multiplier = _multiplier(np.abs(grid[indices]).max(), largest)
    values = np.rint(grid[indices] / multiplier).astype("<i1")
    gaps = np.diff(indices, prepend=0).astype("<u4")
    return compress(np.asarray(multiplier, "<u4").tobytes() + gaps.tobytes() + values.tobytes())


@dataclass(frozen=True, slots=True)
class Quanta:
    """An update in grid units, as small as its codec holds it.

    Element i is values[i] * multipliers[i // BLOCK]. It stands at indices[i], and all others are zero; without
    `indices` it stands at i. Whole numbers throughout, so that every sum of them is exact.
    """

    parameters: int
    values: npt.NDArray[np.signedinteger[Any]]
    multipliers: Grid
    indices: Grid | None = None

    @classmethod
    def of(cls, values: npt.NDArray[np.signedinteger[Any]]) -> Quanta:
        """A vector that is in grid units already."""
        return cls(values.size, values, np.ones(_blocks(values.size), np.int64))

    def pieces(self, elements: int = _AT_ONCE) -> Iterator[tuple[slice, npt.NDArray[Any], Grid]]:
        """Their place among the values, values of shape (blocks, BLOCK), multipliers of shape (blocks, 1).

        About so many elements at a time; what is left over at the end is one short block.
        """
        whole = self.values.size - self.values.size % BLOCK
        rest = [self.values.size] if whole < self.values.size else []
        for start, end in pairwise([*range(0, whole, elements), whole, *rest]):
            width = min(BLOCK, end - start)
            blocks = self.multipliers[start // BLOCK : _blocks(end)]
            yield slice(start, end), self.values[start:end].reshape(-1, width), blocks[:, None]

    def largest(self) -> int:
        """The largest absolute value of an element."""
        worst = 0
        for _, values, multipliers in self.pieces(1 << 30):
            high, low = values.max(axis=1).astype(np.int64), values.min(axis=1).astype(np.int64)
            worst = max(worst, int((np.maximum(high, -low) * multipliers[:, 0]).max()))
        return worst

    def grid(self) -> Grid:
        """All elements, int64 of shape (parameters,)."""
        elements = np.empty(self.values.size, np.int64)
        for place, values, multipliers in self.pieces():
            elements[place] = (values * multipliers).reshape(-1)
        if self.indices is None:
            return elements
        grid = np.zeros(self.parameters, np.int64)
        grid[self.indices] = elements
        return grid


def decode_update(data: bytes, policy: Policy, *, parameters: int) -> Grid:
    """Grid units, int64 of shape (parameters,), each within twice the clip. Raises BodyError."""
    return read_update(data, policy, parameters=parameters).grid()


def read_update(data: bytes, policy: Policy, *, parameters: int) -> Quanta:
    """The same without making it large. Raises BodyError."""
    compression, clipping = policy.compression, policy.clipping
    payload = decompress(data, payload_bytes(compression, parameters))
    match compression.codec:
        case "float32":
            return Quanta.of(_quantised(np.frombuffer(payload, "<f4"), clipping))
        case "float16":
            in_clips = np.frombuffer(payload, "<f2").astype(np.float32)
            return Quanta.of(_quantised(in_clips, Clipping(norm=1.0, steps=clipping.steps)))
        case "int8" | "int4":
            blocks = _blocks(parameters)
            multipliers = np.frombuffer(payload, "<u4", blocks).astype(np.int64)
            values = np.frombuffer(payload, "<i1", offset=4 * blocks)
            if compression.codec == "int4":
                values = _unfolded(values, parameters)
            quanta = Quanta(parameters, values, multipliers)
        case "topk":
            quanta = _sparse(payload, kept=_kept(compression, parameters), parameters=parameters)
    if quanta.largest() > 2 * clipping.steps:
        raise BodyError("out_of_grid", "an element beyond twice the clip")
    return quanta


def _quantised(delta: Floats, clipping: Clipping) -> npt.NDArray[np.int32]:
    largest = max(float(delta.max(initial=0)), -float(delta.min(initial=0)))
    if not math.isfinite(largest):
        raise BodyError("not_finite", "NaN or infinity")
    if largest > 2.0 * clipping.norm:
        raise BodyError("out_of_grid", "an element beyond twice the clip")
    values = np.empty(delta.size, np.int32)
    for start in range(0, delta.size, _AT_ONCE):
        values[start : start + _AT_ONCE] = to_grid(delta[start : start + _AT_ONCE], clipping)
    return values


def _sparse(payload: bytes, *, kept: int, parameters: int) -> Quanta:
    multiplier = int.from_bytes(payload[:4], "little")
    gaps = np.frombuffer(payload, "<u4", kept, offset=4)
    values = np.frombuffer(payload, "<i1", offset=4 + 4 * kept)
    indices = np.cumsum(gaps, dtype=np.int64)
    if (gaps[1:] == 0).any() or int(indices[-1]) >= parameters:
        raise BodyError("body_malformed", "indices do not ascend within the parameters")
    return Quanta(parameters, values, np.full(_blocks(kept), multiplier, np.int64), indices)


def to_grid(delta: Floats, clipping: Clipping) -> Grid:
    """q = rint(delta / step): the one rounding, before anything else (law 6)."""
    return _on_grid(delta, clipping).astype(np.int64)


def _on_grid(delta: Floats, clipping: Clipping) -> npt.NDArray[np.float64]:
    wide = delta.astype(np.float64)
    wide /= clipping.step
    return np.rint(wide, out=wide)


def from_grid(grid: Grid | npt.NDArray[np.float64], clipping: Clipping) -> Floats:
    """What a server sees of an update, float32 in units of the parameters; devices subtract it for error feedback."""
    return (grid * clipping.step).astype(np.float32)


def _shortened(
    delta: Floats, clipping: Clipping, *, largest: int
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.uint32]]:
    """One byte an element, and one multiplier a block; a piece at a time, which a core's own cache holds."""
    values, multipliers = np.empty(delta.size, "<i1"), np.empty(_blocks(delta.size), "<u4")
    whole = delta.size - delta.size % BLOCK
    for start, end in pairwise(sorted({*range(0, whole, _AT_ONCE), whole, delta.size})):
        # Whole numbers, held as float64: below 2^53 they are exact, and need no conversion to be divided.
        grid = _on_grid(delta[start:end], clipping).reshape(-1, min(BLOCK, end - start))
        found = _multiplier(np.maximum(grid.max(axis=1), -grid.min(axis=1)), largest)
        multipliers[start // BLOCK : _blocks(end)] = found
        grid /= found[:, None]
        values[start:end] = np.rint(grid, out=grid).reshape(-1)
    return values, multipliers


def _multiplier(largest: Any, written: int) -> Any:
    """The smallest that brings `largest` grid units down to what is written."""
    return np.maximum(1, -(-largest // written))


def _folded(values: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    """Elements of 4 bits, two a byte."""
    half = _half(values.size)
    folded = values[:half] & np.int8(15)
    folded[: values.size - half] |= values[half:] << np.int8(4)
    return folded


def _unfolded(folded: npt.NDArray[np.int8], parameters: int) -> npt.NDArray[np.int8]:
    """The elements again. Raises BodyError where the half byte of no element is not zero."""
    half = _half(parameters)
    values = np.empty(2 * half, np.int8)
    np.right_shift(folded << np.int8(4), np.int8(4), out=values[:half])
    np.right_shift(folded, np.int8(4), out=values[half:])
    if values[parameters:].any():
        raise BodyError("body_malformed", "half a byte too much is not zero")
    return values[:parameters]


def _half(parameters: int) -> int:
    return -(-parameters // 2)


def _blocks(parameters: int) -> int:
    return -(-parameters // BLOCK)


def _kept(compression: Compression, parameters: int) -> int:
    return min(parameters, max(1, math.ceil(compression.topk_fraction * parameters)))
