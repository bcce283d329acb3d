"""Fetches any body of one partition by its ref, for aggregator, shard worker and full replay."""

from __future__ import annotations

import time
from collections.abc import Callable

from schemas.canonical import MalformedError, decode
from schemas.errors import FedlogError
from schemas.events import UpdateSubmitted
from schemas.identifiers import BodyRef
from schemas.signing import parse_signed
from schemas.topics import SHARDS, UPDATES
from streams.bodies import ALTERED, BUDGET_BYTES, DELETED, Absent, BodyReader
from streams.log import EventLog, TopicPartition
from streams.packing import split_value

# A reader for much reads on by itself until its queue is full, 16 MiB and an answer of the broker, asked or not.
IDLE_S = 5.0
Fetch = Callable[[BodyRef], bytes]


class BodyLost(FedlogError):
    """A body that the journal names is not there.

    `deleted`: the log no longer reaches back to it. `altered`: other bytes stand in its place, as no retention leaves.
    """

    code = "body_lost"

    def __init__(self, ref: BodyRef, absent: Absent) -> None:
        super().__init__(f"body {ref}: {absent}")
        self.deleted = absent.reason == DELETED
        self.altered = absent.reason in ALTERED


class Bodies:
    """Fetches any body of one partition by its ref: inline ones out of `updates`, the others in chunks.

    Those of tasks with shards lie in any partition.
    """

    def __init__(self, log: EventLog, partition: int, *, budget_bytes: int = BUDGET_BYTES) -> None:
        self._log, self._partition, self._budget_bytes = log, partition, budget_bytes
        self._readers: dict[TopicPartition, BodyReader] = {}
        self._used_s: dict[TopicPartition, float] = {}

    def find(self, ref: BodyRef) -> bytes | Absent:
        """The bytes, or the fact that they are not there."""
        # A device may have made this address up: a partition that does not exist gives absence, no error.
        spread = ref.topic == SHARDS.name and ref.partition < self._log.partitions
        at = TopicPartition(ref.topic, ref.partition if spread else self._partition)
        if at not in self._readers:
            # Kept open, because what one fetch has read ahead often holds the next body.
            reader = BodyReader(self._log, *at, bulk=True, budget_bytes=self._budget_bytes)
            if ref.topic == UPDATES.name:
                reader.unwrap = _list_inline
            self._readers[at] = reader
        try:
            return self._readers[at].fetch(ref)
        finally:
            # Also where nothing came of it: a reader that no clock knows would read on for ever.
            self._used_s[at] = time.monotonic()

    def fetch(self, ref: BodyRef) -> bytes:
        """The bytes. Raises BodyLost, which names the place."""
        return present(ref, self.find(ref))

    def rest(self) -> None:
        """Close each reader that nobody has asked for a while, with what it has read ahead for nobody."""
        idle_s = time.monotonic() - IDLE_S
        for at in [at for at, used_s in self._used_s.items() if used_s < idle_s]:
            del self._used_s[at]
            self._readers.pop(at).close()

    def close(self) -> None:
        """Release the readers and what they hold."""
        for reader in self._readers.values():
            reader.close()


def present(ref: BodyRef, body: bytes | Absent) -> bytes:
    """A body that has to be there. Raises BodyLost, which names the place."""
    if isinstance(body, Absent):
        raise BodyLost(ref, body)
    return body


def _list_inline(value: bytes) -> list[bytes]:
    """The bodies in the messages of a record, in their order; nothing for a message that is no UpdateSubmitted."""
    return [_find_inline(message) for message in split_value(value)]


def _find_inline(message: bytes) -> bytes:
    try:
        return decode(parse_signed(message).payload, UpdateSubmitted).inline or b""
    except MalformedError:
        return b""
