"""Parameters as bytes and back; decoding is bounded whatever the bytes are. May import `schemas.policy`.

* `frames`: one zstd frame around a payload of known length, and bodies that are plain vectors (models, moments, sums).
* `grid`: whole multiples of the policy's step, and an update in them (`Quanta`).
* `clipping`: the exact clip, by which every side bounds what one update can change.
* `codecs`: the body of an update, each codec with both halves.

Actors, devices, audit and the operator's commands import the names from here.
"""

from __future__ import annotations

from schemas.tensors.codecs import body_bytes_max, encode_update, payload_bytes, read_back, read_update
from schemas.tensors.frames import (
    VALUE_MAX,
    BodyError,
    Floats,
    compress,
    compute_frame_bytes_max,
    decompress,
    decompress_model,
    hash_payload,
    model_bytes_max,
    pack,
    unpack,
)
from schemas.tensors.grid import BLOCK, Grid, Quanta, from_grid, to_grid

__all__ = [
    "BLOCK",
    "VALUE_MAX",
    "BodyError",
    "Floats",
    "Grid",
    "Quanta",
    "body_bytes_max",
    "compress",
    "compute_frame_bytes_max",
    "decompress",
    "decompress_model",
    "encode_update",
    "from_grid",
    "hash_payload",
    "model_bytes_max",
    "pack",
    "payload_bytes",
    "read_back",
    "read_update",
    "to_grid",
    "unpack",
]
