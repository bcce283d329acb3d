"""Results of shard workers, as the aggregator reads them from `partials`.

It waits a little for each, and computes itself what does not come: a shard worker makes things faster, never different.
"""

from __future__ import annotations

import time
from collections import OrderedDict, defaultdict
from collections.abc import Hashable, Iterable

import structlog

from actors.deciders.aggregator_state import Task
from actors.effects.aggregator.intake import UpdateBody
from actors.effects.aggregator.summation import Measured
from actors.keys import PartialSeals
from schemas.canonical import MalformedError, decode
from schemas.events import BodyMeasured, Partial, PartialStored, UpdateAdmitted
from schemas.identifiers import BodyRef
from schemas.receipts.members import compute_members_root
from schemas.topics import PARTIALS, SHARDS
from streams.log import EventLog, OffsetLost, Reader, Record, TopicPartition
from streams.skipped import Skipped

PATIENCE_S = 2.0  # without any result of a partition's worker; a slow one is waited for up to PATIENCE_MAX_S
PATIENCE_MAX_S = 20.0
POLL_S = 0.2
RESULTS_MAX = 100_000
EARLIER_MS = 60_000  # two partitions may have leaders with clocks of their own

logger = structlog.get_logger()


def by_partition(members: Iterable[UpdateAdmitted]) -> dict[int, list[UpdateAdmitted]]:
    """Members with a body in `shards` that count, by the partition of their bodies.

    With privacy a member that does not count keeps whatever address its device has made up.
    """
    found: defaultdict[int, list[UpdateAdmitted]] = defaultdict(list)
    for member in members:
        if member.zeroed is None and member.body.topic == SHARDS.name:
            found[member.body.partition].append(member)
    return found


def select_own(members: Iterable[UpdateAdmitted]) -> list[UpdateAdmitted]:
    """Members whose bodies are not in `shards`: the aggregator adds them itself."""
    return [member for member in members if member.body.topic != SHARDS.name]


class Partials:
    """For one actor's thread. `patience_s` is 0 while the actor must not wait."""

    def __init__(self, log: EventLog, partition: int, seals: PartialSeals) -> None:
        self.patience_s = 0.0
        self._log, self._at, self._seals = log, TopicPartition(PARTIALS.name, partition), seals
        self._reader: Reader | None = None
        self._results: OrderedDict[Hashable, Partial] = OrderedDict()
        self._silent: set[int] = set()
        self._skipped = Skipped()

    def expects(self, ref: BodyRef) -> bool:
        """Whether a worker that has not fallen silent looks after this body."""
        return ref.topic == SHARDS.name and ref.partition not in self._silent

    def find_measured(self, task: Task, body: UpdateBody) -> Measured | None:
        """The result of a shard worker for this body; None where none comes."""
        key = (task.created.task, body.ref, body.sealed_update)
        result = self._await(key, body.ref.partition, since_ms=task.progress_ms)
        return Measured(None, result.clip_scale, result.fault) if isinstance(result, BodyMeasured) else None

    def find_stored(self, task: Task, round_id: int, *, members: list[UpdateAdmitted]) -> PartialStored | None:
        """Where the sum of these members, all of one partition, is stored; None where no result comes."""
        key = (task.created.task, round_id, compute_members_root(members))
        result = self._await(key, members[0].body.partition, since_ms=task.progress_ms)
        return result if isinstance(result, PartialStored) else None

    def close(self) -> None:
        """Release the reader."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _await(self, key: Hashable, partition: int, *, since_ms: int) -> Partial | None:
        began_s = heard_s = time.monotonic()
        patience_s = 0.0 if partition in self._silent else self.patience_s
        while key not in self._results:
            now_s = time.monotonic()
            left_s = min(heard_s + patience_s, began_s + PATIENCE_MAX_S) - now_s
            heard = self._poll(max(0.0, min(left_s, POLL_S)), since_ms=since_ms)
            if partition in heard:
                heard_s = now_s
            if left_s <= 0 and (not heard or now_s - began_s > PATIENCE_MAX_S):
                if self.patience_s and partition not in self._silent:
                    logger.warning("shard_worker_silent", topic=SHARDS.name, partition=partition)
                    self._silent.add(partition)
                return None
        # Each is asked for once, and one that stays takes the room of results still to come.
        return self._results.pop(key)

    def _poll(self, timeout_s: float, *, since_ms: int) -> set[int]:
        """Keep the results that come; the partitions that they are of."""
        if self._reader is None:
            self._reader = self._log.reader({self._at: self._log.first_since(self._at, since_ms - EARLIER_MS)})
        try:
            records = self._reader.poll(timeout_s)
        except OffsetLost:
            self.close()  # retention has overtaken it
            return set()
        heard = {partial.body.partition for record in records if (partial := self._keep(record)) is not None}
        # Whoever speaks again is waited for again: a worker that was restarted must not stay shut out.
        self._silent -= heard
        return heard

    def _keep(self, record: Record) -> Partial | None:
        try:
            partial: Partial = decode(record.value or b"", Partial)  # type: ignore[arg-type]
        except MalformedError as error:
            self._skipped.note(record, str(error))
            return None
        if not self._seals.holds(partial):
            self._skipped.note(record, "not under the seal of a shard worker")
            return None
        match partial:
            case BodyMeasured():
                self._results[partial.task, partial.body, partial.update] = partial
            case PartialStored():
                self._results[partial.task, partial.round, partial.members_root] = partial
        # Workers also tell what nobody asks for any more, and a result that is gone is merely computed again.
        while len(self._results) > RESULTS_MAX:
            self._results.popitem(last=False)
        return partial
