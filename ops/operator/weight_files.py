"""Weights in the formats of others, .pt, .npz and .safetensors: read to start a task from, written to take one along.

Nothing in a file is run: no pickle in .npz, and torch loads with `weights_only=True`. The layout of safetensors is
eight bytes of length, a JSON header with type, shape and offsets of each tensor, and their bytes
(huggingface/safetensors, format).
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from client_agent.learning.learner import Array, Arrays
from client_agent.learning.plugins import PluginError
from ops.operator.errors import WeightsUnfit
from ops.operator.first_models import FirstModel

FORMATS = ("safetensors", "pt", "npz")
HEADER_BYTES_MAX = 100_000_000
_SHOWN = 5
_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"} | {
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "|i1",
    "U8": "|u1",
    "BOOL": "|b1",
}


def read_weights(path: Path) -> dict[str, Array]:
    """The arrays of a file by name; its ending says how it is read. Raises WeightsUnfit."""
    ending = path.suffix.lower()
    if not path.is_file():
        raise WeightsUnfit(f"{path}: there is no such file.")
    match ending:
        case ".npz":
            return _read_npz(path)
        case ".safetensors":
            return _read_safetensors(path)
        case ".pt" | ".pth":
            return _read_torch(path)
    raise WeightsUnfit(f"{path}: weights are read from .pt, .npz or .safetensors.")


def write_weights(arrays: Arrays, form: str) -> bytes:
    """The content of a file with these arrays; `form` is one of FORMATS."""
    match form:
        case "npz":
            buffer = io.BytesIO()
            np.savez(buffer, allow_pickle=False, **dict(arrays))
            return buffer.getvalue()
        case "safetensors":
            return _write_safetensors(arrays)
        case "pt":
            # torch is loaded where a file of its own is asked for, and nowhere else.
            from client_agent.learning.pytorch.files import write_state

            return write_state(arrays)
    raise WeightsUnfit(f"Weights are written as {', '.join(FORMATS)}, not as {form!r}.")


def start_with(first: FirstModel, arrays: Mapping[str, Array]) -> FirstModel:
    """The first model of a task with the values of a file. Raises WeightsUnfit with all that does not fit."""
    # Local arrays of a file are nobody's: each device starts with its own.
    expected = {spec.name: spec.shape for spec in first.tensors}
    problems = list(_compare(expected, {name: a for name, a in arrays.items() if name not in first.local}))
    if problems:
        more = f" ({len(problems)} in all)" if len(problems) > _SHOWN else ""
        raise WeightsUnfit("The weights are not those of the policy's model: " + "; ".join(problems[:_SHOWN]) + more)
    return first.fill_with(arrays)


def _compare(expected: Mapping[str, tuple[int, ...]], arrays: Mapping[str, Array]) -> list[str]:
    """What does not fit, each with both sides."""
    missing = [f"the file has no {name!r}" for name in expected if name not in arrays]
    unknown = [f"the model has no {name!r}" for name in arrays if name not in expected]
    wrong = []
    for name in expected.keys() & arrays.keys():
        array = arrays[name]
        if array.shape != expected[name]:
            wrong.append(f"{name!r} has shape {array.shape}, the model's has {expected[name]}")
        elif not np.issubdtype(array.dtype, np.floating):
            wrong.append(f"{name!r} holds {array.dtype}, the model's floating numbers")
        # A frozen mask may well hold infinity, but NaN means nothing anywhere.
        elif np.isnan(array).any():
            wrong.append(f"{name!r} holds NaN")
    return [*missing, *unknown, *sorted(wrong)]


def _read_npz(path: Path) -> dict[str, Array]:
    try:
        # A pickle can run code, so an archive that holds one is refused.
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, zipfile.BadZipFile, AttributeError) as error:
        raise WeightsUnfit(f"{path}: {error}; expected what numpy.savez(path, name=array, …) writes.") from error


def _read_torch(path: Path) -> dict[str, Array]:
    from client_agent.learning.pytorch.files import read_state

    try:
        return read_state(path)
    except PluginError as error:
        raise WeightsUnfit(str(error)) from error


def _read_safetensors(path: Path) -> dict[str, Array]:
    data = path.read_bytes()
    try:
        size = int.from_bytes(data[:8], "little")
        if len(data) < 8 or size > min(HEADER_BYTES_MAX, len(data) - 8):
            raise ValueError("its header is longer than the file")
        # Read here, because it is a length, JSON and bytes: a library for it would be one more thing to trust.
        header = json.loads(data[8 : 8 + size])
        header.pop("__metadata__", None)
        return {name: _read_tensor(memoryview(data)[8 + size :], told) for name, told in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsUnfit(f"{path} is no safetensors file: {error}.") from error


def _read_tensor(body: memoryview, told: Mapping[str, Any]) -> Array:
    begin, end = told["data_offsets"]
    kind, shape = np.dtype(_TYPES[told["dtype"]]), tuple(int(length) for length in told["shape"])
    if not 0 <= begin <= end <= len(body) or end - begin != kind.itemsize * math.prod(shape):
        raise ValueError(f"offsets {begin} to {end} do not hold a tensor of shape {shape}")
    array = np.frombuffer(body[begin:end], kind).reshape(shape)
    # The upper half of a float32 is a bfloat16, which numpy does not have.
    return (array.astype(np.uint32) << 16).view(np.float32) if told["dtype"] == "BF16" else array


def _write_safetensors(arrays: Arrays) -> bytes:
    # What is written is read by others' libraries, which know no other order of bytes.
    names = {np.dtype(kind): name for name, kind in _TYPES.items() if name != "BF16"}
    header: dict[str, Any] = {}
    parts, at = [], 0
    for name, array in arrays.items():
        little = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
        header[name] = {
            "dtype": names[little.dtype],
            "shape": list(array.shape),
            "data_offsets": [at, at + little.nbytes],
        }
        parts.append(little.tobytes())
        at += little.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    # Padded with blanks to whole eights, as others do, so that a mapped file is aligned.
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + b"".join(parts)
