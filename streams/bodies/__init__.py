"""Bodies: the bytes of updates, models and sums, as chunks beside the events that name them.

* `uploads`: stores bodies in chunks, and writes their tombstones; for devices, actors and the operator's commands.
* `reader`: fetches the body that a BodyRef names; for actors, shard workers, devices and audit.

Kafka has no index, so that a BodyRef names the offset of every chunk. Import the names from here. May import
`streams.log` and `streams.retry`.
"""

from __future__ import annotations

from streams.bodies.reader import (
    ALTERED,
    BUDGET_BYTES,
    BUDGET_BYTES_MIN,
    DELETED,
    MISSES_BEFORE_MOVING,
    Absent,
    BodyReader,
)
from streams.bodies.uploads import Upload, discard, store, store_all

__all__ = [
    "ALTERED",
    "BUDGET_BYTES",
    "BUDGET_BYTES_MIN",
    "DELETED",
    "MISSES_BEFORE_MOVING",
    "Absent",
    "BodyReader",
    "Upload",
    "discard",
    "store",
    "store_all",
]
