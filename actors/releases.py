"""From a round's members to the next model: the one computation that publishing, recovery and full replay share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from actors.deciders import noise, optimizers, sums
from actors.keys import OperatorKey
from schemas.envelope import MalformedError, decode
from schemas.events import RoundProposed, TaskCreated, UpdateAdmitted, UpdateSubmitted
from schemas.identifiers import BodyRef
from schemas.signing import unsigned
from schemas.tensors import Floats, Grid, read_update
from schemas.topics import PARTITIONS, SHARDS, UPDATES
from streams.bodies import ALTERED, BUDGET_BYTES, DELETED, Absent, BodyReader
from streams.log import EventLog, TopicPartition

Fetch = Callable[[BodyRef], bytes]


class BodyLost(Exception):
    """A body that the journal names is not there.

    `deleted`: the log no longer reaches back to it. `altered`: other bytes stand in its place, as no retention leaves.
    """

    def __init__(self, ref: BodyRef, absent: Absent) -> None:
        offset = ref.offsets[0] if ref.offsets else "?"
        super().__init__(f"body {ref.topic}[{ref.partition}]@{offset}: {absent}")
        self.deleted = absent.reason == DELETED
        self.altered = absent.reason in ALTERED


class NoiseKeyMissing(Exception):
    """The mechanism names a noise key that this operator's key file does not hold."""


@dataclass(frozen=True, slots=True)
class Release:
    """What a round gives: the exact sum before noise, the next model, and the optimizer's vectors after it."""

    sum_sha256: bytes
    model: Floats
    moments: Floats | None


def round_sum(created: TaskCreated, members: Iterable[UpdateAdmitted], *, fetch: Fetch) -> sums.RunningSum:
    """The exact sum of a round from its members' bodies."""
    running = sums.RunningSum(created.parameters)
    for member in members:
        if member.zeroed is None:
            quanta = read_update(fetch(member.body), created.policy, parameters=created.parameters)
            running.add(quanta, weight=member.weight, scale=member.clip_scale)
    return running


def release(
    created: TaskCreated, proposed: RoundProposed, *, total: Grid, start: tuple[Floats, Floats | None], key: OperatorKey
) -> Release:
    """Noise (with privacy), mean, optimizer step; `start` is the newest model and its moments.

    Raises NoiseKeyMissing.
    """
    digest = sums.sum_digest(total)
    if proposed.mechanism is not None:
        if proposed.mechanism.key_id != key.key_id:
            raise NoiseKeyMissing(f"round {proposed.round} wants noise key {proposed.mechanism.key_id.hex()}")
        total = total + noise.draw(key.noise, proposed, parameters=created.parameters)
    delta = optimizers.mean(total, created.policy, members=proposed.members, weight_sum=proposed.weight_sum)
    model, moments = optimizers.step(created.policy.optimizer, start[0], moments=start[1], delta=delta)
    return Release(digest, model, moments)


class Bodies:
    """Fetches any body of one partition by its ref: inline ones out of `updates`, the others in chunks.

    Those of tasks with shards lie in any partition.
    """

    def __init__(self, log: EventLog, partition: int, *, budget_bytes: int = BUDGET_BYTES) -> None:
        self._log, self._partition, self._budget_bytes = log, partition, budget_bytes
        self._readers: dict[TopicPartition, BodyReader] = {}

    def find(self, ref: BodyRef) -> bytes | Absent:
        """The bytes, or the fact that they are not there."""
        spread = ref.topic == SHARDS.name and ref.partition < PARTITIONS
        at = TopicPartition(ref.topic, ref.partition if spread else self._partition)
        if at not in self._readers:
            reader = BodyReader(self._log, *at, bulk=True, budget_bytes=self._budget_bytes)
            if ref.topic == UPDATES.name:
                reader.unwrap = _inline
            self._readers[at] = reader
        return self._readers[at].fetch(ref)

    def fetch(self, ref: BodyRef) -> bytes:
        """The bytes. Raises BodyLost, which names the place."""
        return present(ref, self.find(ref))

    def close(self) -> None:
        """Release the readers and what they hold."""
        for reader in self._readers.values():
            reader.close()


def present(ref: BodyRef, body: bytes | Absent) -> bytes:
    """A body that has to be there. Raises BodyLost, which names the place."""
    if isinstance(body, Absent):
        raise BodyLost(ref, body)
    return body


def _inline(value: bytes) -> bytes:
    """The body inside an UpdateSubmitted; nothing where the record is none."""
    try:
        return decode(unsigned(value).payload, UpdateSubmitted).inline or b""
    except MalformedError:
        return b""
