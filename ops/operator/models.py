"""A model's body in the log, as one flat float32 vector."""

from __future__ import annotations

import uuid
from contextlib import closing

from ops.console import ConsoleError
from schemas import tensors
from schemas.identifiers import BodyRef
from schemas.topics import MODELS
from streams import bodies
from streams.log import EventLog, TopicPartition


def store(log: EventLog, flat: tensors.Floats, *, partition: int) -> BodyRef:
    """Write `flat`, shape (parameters,), as a body of `models`."""
    # A name of its own for each attempt: compaction keeps one body a name, and two creators may race.
    return bodies.store(
        log,
        TopicPartition(MODELS.name, partition),
        data=tensors.pack(flat),
        upload_id=uuid.uuid4().hex,
        codec="float32",
    )


def read(log: EventLog, ref: BodyRef, *, parameters: int) -> tensors.Floats:
    """The vector, shape (parameters,). Raises ConsoleError when the log lost it, BodyError for other bytes."""
    with closing(bodies.BodyReader(log, ref.topic, ref.partition)) as reader:
        data = reader.fetch(ref)
    if isinstance(data, bodies.Absent):
        raise ConsoleError(
            f"The body at {ref} is gone ({data.reason}): the policy's [retention] says how many models are kept.",
            exit_code=4,
        )
    return tensors.unpack(data, "float32", count=parameters)
