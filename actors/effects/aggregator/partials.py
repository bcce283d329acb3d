"""What shard workers tell, as the aggregator hears it: it waits a little, and computes itself what it is not told."""

from __future__ import annotations

import time
from collections import OrderedDict, defaultdict
from collections.abc import Hashable, Iterable
from typing import TypeVar

import structlog

from actors.deciders.aggregator_state import Task
from actors.deciders.arithmetic import sums
from actors.effects.aggregator.intake import Measured, Wanted
from actors.keys import PartialSeals
from schemas.canonical import MalformedError, decode
from schemas.events import BodyMeasured, Partial, PartialStored, UpdateAdmitted
from schemas.identifiers import BodyRef
from schemas.topics import PARTIALS, SHARDS
from streams.log import EventLog, OffsetLost, Reader, Record, TopicPartition

PATIENCE_S = 2.0  # without a word from a partition's worker; a slow one is waited for, up to this:
PATIENCE_MAX_S = 20.0
POLL_S = 0.2
REMEMBERED = 100_000
EARLIER_MS = 60_000  # two partitions may have leaders with clocks of their own

T = TypeVar("T")
logger = structlog.get_logger()


def by_partition(members: Iterable[UpdateAdmitted]) -> dict[int, list[UpdateAdmitted]]:
    """Those members that count and whose bodies are spread over partitions, by these.

    With privacy a member that does not count keeps whatever address its device has made up.
    """
    found: defaultdict[int, list[UpdateAdmitted]] = defaultdict(list)
    for member in members:
        if member.zeroed is None and member.body.topic == SHARDS.name:
            found[member.body.partition].append(member)
    return found


def own(members: Iterable[UpdateAdmitted]) -> list[UpdateAdmitted]:
    """Those whose bodies are not spread: the aggregator adds them itself."""
    return [member for member in members if member.body.topic != SHARDS.name]


class Partials:
    """For one actor's thread. `patience_s` is 0 while nobody may be waited for."""

    def __init__(self, log: EventLog, partition: int, seals: PartialSeals) -> None:
        self.patience_s = 0.0
        self._log, self._at, self._seals = log, TopicPartition(PARTIALS.name, partition), seals
        self._reader: Reader | None = None
        self._told: OrderedDict[Hashable, Partial] = OrderedDict()
        self._silent: set[int] = set()

    def tells_of(self, ref: BodyRef) -> bool:
        """Whether a worker that has not fallen silent looks after this body."""
        return ref.topic == SHARDS.name and ref.partition not in self._silent

    def measured(self, task: Task, wanted: Wanted) -> Measured | None:
        """What a shard worker found in this body; None: nobody tells."""
        told = self._awaited((task.created.task, wanted.ref), wanted.ref.partition, since_ms=task.progress_ms)
        return Measured(None, told.clip_scale, told.fault) if isinstance(told, BodyMeasured) else None

    def stored(self, task: Task, round_id: int, *, members: list[UpdateAdmitted]) -> PartialStored | None:
        """Where the sum of these members, all of one partition, is stored; None: nobody tells."""
        key = (task.created.task, round_id, sums.members_root(members))
        told = self._awaited(key, members[0].body.partition, since_ms=task.progress_ms)
        return told if isinstance(told, PartialStored) else None

    def close(self) -> None:
        """Release the reader."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _awaited(self, key: Hashable, partition: int, *, since_ms: int) -> Partial | None:
        began_s = heard_s = time.monotonic()
        patience_s = 0.0 if partition in self._silent else self.patience_s
        while key not in self._told:
            now_s = time.monotonic()
            left_s = min(heard_s + patience_s, began_s + PATIENCE_MAX_S) - now_s
            heard = self._hear(max(0.0, min(left_s, POLL_S)), since_ms=since_ms)
            if partition in heard:
                heard_s = now_s
            if left_s <= 0 and (not heard or now_s - began_s > PATIENCE_MAX_S):
                if self.patience_s and partition not in self._silent:
                    logger.warning("shard worker silent", topic=SHARDS.name, partition=partition)
                    self._silent.add(partition)
                return None
        return self._told.pop(key)

    def _hear(self, timeout_s: float, *, since_ms: int) -> set[int]:
        """Take in what comes; of which partitions it speaks."""
        if self._reader is None:
            self._reader = self._log.reader({self._at: self._log.first_since(self._at, since_ms - EARLIER_MS)})
        try:
            records = self._reader.poll(timeout_s)
        except OffsetLost:
            self.close()  # retention has overtaken it
            return set()
        heard = {partial.body.partition for record in records if (partial := self._taken(record)) is not None}
        self._silent -= heard
        return heard

    def _taken(self, record: Record) -> Partial | None:
        try:
            partial: Partial = decode(record.value or b"", Partial)  # type: ignore[arg-type]
        except MalformedError:
            return None
        if not self._seals.holds(partial):
            logger.warning("partial without a seal", partition=record.partition, offset=record.offset)
            return None
        match partial:
            case BodyMeasured():
                self._told[partial.task, partial.body] = partial
            case PartialStored():
                self._told[partial.task, partial.round, partial.members_root] = partial
        while len(self._told) > REMEMBERED:
            self._told.popitem(last=False)
        return partial
