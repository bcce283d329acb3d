"""The body of an update, each codec with both halves: a device encodes, the aggregator and its shard workers read.

Payloads of an update of d parameters, little-endian:

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
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.policy import Clipping, Compression, Policy
from schemas.tensors.frames import (
    ZSTD_LEVEL,
    ZSTD_LEVEL_NONE,
    BodyError,
    Floats,
    compress,
    compute_frame_bytes_max,
    decompress,
    pack,
)
from schemas.tensors.grid import BLOCK, CHUNK_ELEMENTS, Quanta, count_blocks, round_to_grid, to_grid

# The largest value that an encoder writes; a reader takes -128 and -8 too.
_LARGEST = {"int8": 127, "int4": 7, "topk": 127}


def payload_bytes(compression: Compression, parameters: int) -> int:
    """The length of an update's payload before zstd."""
    match compression.codec:
        case "float32":
            return 4 * parameters
        case "float16":
            return 2 * parameters
        case "int4":
            return 4 * count_blocks(parameters) + _half(parameters)
        case "int8":
            return 4 * count_blocks(parameters) + parameters
        case "topk":
            return 4 + 5 * _count_kept(compression, parameters)


def body_bytes_max(compression: Compression, parameters: int) -> int:
    """No body of an update is longer than this (zstd's worst case for incompressible input)."""
    return compute_frame_bytes_max(payload_bytes(compression, parameters))


def encode_update(delta: Floats, policy: Policy) -> bytes:
    """The body of an update. `delta` has shape (parameters,), in the parameters' units, each within twice the clip."""
    compression, clipping = policy.compression, policy.clipping
    # A masked body is no shorter for it: this one never leaves the device.
    level = ZSTD_LEVEL_NONE if policy.is_masked else ZSTD_LEVEL
    match compression.codec:
        case "float32":
            return pack(delta, level)
        case "float16":
            return pack((delta / clipping.norm).astype("<f2"), level)
        case "int8" | "int4":
            values, multipliers = _shorten(delta, clipping, largest=_LARGEST[compression.codec])
            packed = values if compression.codec == "int8" else _fold(values)
            return compress(multipliers.tobytes() + packed.tobytes(), level)
        case "topk":
            return compress(_encode_sparse(delta, policy), level)


def read_update(data: bytes, policy: Policy, *, parameters: int) -> Quanta:
    """The update in grid units, each within twice the clip, not made larger than its codec. Raises BodyError."""
    compression, clipping = policy.compression, policy.clipping
    payload = decompress(data, payload_bytes(compression, parameters))
    match compression.codec:
        case "float32":
            return Quanta.from_values(_quantise(np.frombuffer(payload, "<f4"), clipping))
        case "float16":
            in_clips = np.frombuffer(payload, "<f2").astype(np.float32)
            return Quanta.from_values(_quantise(in_clips, Clipping(norm=1.0, steps=clipping.steps)))
        case "int8" | "int4":
            multipliers = np.frombuffer(payload, "<u4", count_blocks(parameters)).astype(np.int64)
            values = np.frombuffer(payload, "<i1", offset=4 * multipliers.size)
            if compression.codec == "int4":
                values = _unfold(values, parameters)
            quanta = Quanta(parameters, values, multipliers)
        case "topk":
            quanta = _read_sparse(payload, kept=_count_kept(compression, parameters), parameters=parameters)
    if quanta.largest() > 2 * clipping.steps:
        raise BodyError("out_of_grid", "an element beyond twice the clip")
    return quanta


def read_back(delta: Floats, body: bytes, *, policy: Policy) -> Quanta:
    """What a reader of `body` gets, for whoever has just encoded it from `delta`. Raises BodyError."""
    # Its bytes are those of the vector, which need not be taken out of their frame again.
    if policy.compression.codec == "float32":
        return Quanta.from_values(_quantise(delta, policy.clipping))
    return read_update(body, policy, parameters=delta.size)


# --- float32 and float16 ----------------------------------------------------------------------------------------------


def _quantise(delta: Floats, clipping: Clipping) -> npt.NDArray[np.int32]:
    # Checked before rounding, because an element beyond int32 would wrap around.
    largest = max(float(delta.max(initial=0)), -float(delta.min(initial=0)))
    if not math.isfinite(largest):
        raise BodyError("not_finite", "NaN or infinity")
    if largest > 2.0 * clipping.norm:
        raise BodyError("out_of_grid", "an element beyond twice the clip")
    values = np.empty(delta.size, np.int32)
    for start in range(0, delta.size, CHUNK_ELEMENTS):
        values[start : start + CHUNK_ELEMENTS] = round_to_grid(delta[start : start + CHUNK_ELEMENTS], clipping)
    return values


# --- int8 and int4 ----------------------------------------------------------------------------------------------------


def _shorten(delta: Floats, clipping: Clipping, *, largest: int) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.uint32]]:
    """One byte an element, and one multiplier a block."""
    values, multipliers = np.empty(delta.size, "<i1"), np.empty(count_blocks(delta.size), "<u4")
    whole = delta.size - delta.size % BLOCK
    for start, end in pairwise(sorted({*range(0, whole, CHUNK_ELEMENTS), whole, delta.size})):
        grid = round_to_grid(delta[start:end], clipping).reshape(-1, min(BLOCK, end - start))
        block_multipliers = _multiplier(np.maximum(grid.max(axis=1), -grid.min(axis=1)), largest)
        multipliers[start // BLOCK : count_blocks(end)] = block_multipliers
        # In place, because these vectors are the largest of a device.
        grid /= block_multipliers[:, None]
        values[start:end] = np.rint(grid, out=grid).reshape(-1)
    return values, multipliers


def _multiplier(largest: Any, written: int) -> Any:
    """The smallest that brings `largest` grid units down to what is written."""
    return np.maximum(1, -(-largest // written))


def _fold(values: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    """Elements of 4 bits, two a byte."""
    half = _half(values.size)
    folded = values[:half] & np.int8(15)
    folded[: values.size - half] |= values[half:] << np.int8(4)
    return folded


def _unfold(folded: npt.NDArray[np.int8], parameters: int) -> npt.NDArray[np.int8]:
    """The elements again. Raises BodyError where the half byte of no element is not zero."""
    half = _half(parameters)
    values = np.empty(2 * half, np.int8)
    np.right_shift(folded << np.int8(4), np.int8(4), out=values[:half])
    np.right_shift(folded, np.int8(4), out=values[half:])
    # One form for one update: else the same elements could have several digests.
    if values[parameters:].any():
        raise BodyError("body_malformed", "half a byte too much is not zero")
    return values[:parameters]


def _half(parameters: int) -> int:
    return -(-parameters // 2)


# --- topk -------------------------------------------------------------------------------------------------------------


def _encode_sparse(delta: Floats, policy: Policy) -> bytes:
    grid = to_grid(delta, policy.clipping)
    kept = _count_kept(policy.compression, grid.size)
    # Sorted, so that gaps between neighbours are written, which zstd makes shorter than the indices.
    indices = np.sort(np.argpartition(-np.abs(grid), kept - 1)[:kept])
    multiplier = _multiplier(np.abs(grid[indices]).max(), _LARGEST["topk"])
    values = np.rint(grid[indices] / multiplier).astype("<i1")
    gaps = np.diff(indices, prepend=0).astype("<u4")
    return b"".join((np.asarray(multiplier, "<u4").tobytes(), gaps.tobytes(), values.tobytes()))


def _read_sparse(payload: bytes, *, kept: int, parameters: int) -> Quanta:
    multiplier = int.from_bytes(payload[:4], "little")
    gaps = np.frombuffer(payload, "<u4", kept, offset=4)
    values = np.frombuffer(payload, "<i1", offset=4 + 4 * kept)
    indices = np.cumsum(gaps, dtype=np.int64)
    # The first gap is the first index itself, so it may be zero.
    if (gaps[1:] == 0).any() or int(indices[-1]) >= parameters:
        raise BodyError("body_malformed", "indices do not ascend within the parameters")
    return Quanta(parameters, values, np.full(count_blocks(kept), multiplier, np.int64), indices)


def _count_kept(compression: Compression, parameters: int) -> int:
    return min(parameters, max(1, math.ceil(compression.topk_fraction * parameters)))
