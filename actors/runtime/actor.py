"""Runs any decider on one partition: claim, replay, skip, decide, append, evolve.

Between the begin of a transaction and its end there is no half way: whatever fails there ends the process, and the next
claim finds in the journal what happened. That is why a state can be evolved in place before its commit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from typing import Any, Generic, Protocol, TypeVar

import structlog

from actors.deciders.decider import Decider
from actors.runtime.batches import Uncommitted
from actors.runtime.effects import Effects
from actors.runtime.guard import InputPlace, Skip, SkipLevel, StateHalfApplied, described
from actors.runtime.journal import Journal, Written
from actors.runtime.role import Role
from actors.runtime.snapshots import Found, Snapshots, Taken, closing_digest
from schemas.canonical import encode_state
from schemas.errors import FedlogError
from schemas.events import DefectFound, InputsDropped, JournalEvent, StateDigest
from schemas.journal import Batch, Chain, ChainBroken, ChainResumed, Decision, JournalPosition, Position
from streams.log import EventLog, LogError, Record, TopicPartition, scan

S = TypeVar("S")

DIGEST_EVERY = 10_000
_HOST = ("", 0)  # the source of a decision on a fact that the host made itself
FORCED_AFTER_INPUTS = 10_000
FORCED_AFTER_MS = 3_600_000
_TRANSACTION_OFFSETS = 2  # from the last record of one transaction to the first of the next; between them its marker

logger = structlog.get_logger()


class ReplayDiffers(FedlogError):
    """The journal folds to another state than the one recorded in it: this code is not the code that wrote it."""

    code = "replay_differs"


class Gap(FedlogError):
    """An input skipped an offset; the host goes back to `expected` and looks again."""

    code = "input_gap"

    def __init__(self, topic: str, *, expected: int, found: int) -> None:
        super().__init__(f"{topic}: offset {found} came where {expected} was expected")
        self.topic, self.expected, self.found = topic, expected, found


class Observer(Protocol):
    """Whoever watches an actor: its metrics and its log."""

    def restored(self, state: object) -> None:
        """A snapshot gave this state; what led to it is not read back."""
        ...

    def replayed(self, decision: Decision) -> None:
        """A decision was read back from the journal."""
        ...

    def decided(self, decision: Decision, seq: int) -> None:
        """A decision is in the journal now."""
        ...


class Actor(Generic[S]):
    """One actor on one partition. `handle` takes inputs in any batches; `work` does what the state waits for."""

    def __init__(
        self,
        role: Role,
        partition: int,
        *,
        log: EventLog,
        decider: Decider[S],
        edge: Effects[S],
        accepts_resume: Callable[[ChainResumed], bool] = lambda _: False,
        observers: Sequence[Observer] = (),
    ) -> None:
        self.role, self.partition = role, partition
        self.defects = 0
        self.passes: dict[InputPlace, Skip] = {}  # what has failed before; the partition's next actor gets it too
        self.in_hand: Callable[[InputPlace | None], None] = lambda _: None  # told which input is being decided
        self._log, self._decider, self._edge, self._observers = log, decider, edge, observers
        self._accepts_resume = accepts_resume
        self._journal = Journal(log, role, partition, accepts_resume=accepts_resume)
        self._snapshots = Snapshots(log, self._journal)
        self._decided_ms: dict[str, int] = {}
        self._idle_inputs = 0
        self._uncommitted = Uncommitted()
        self._begin()

    def _begin(self) -> None:
        """Stand before the journal's first record."""
        self.state = self._decider.initial()
        self.time_ms = self._batch_time_ms = 0
        self.replayed_decisions = 0
        self.snapshot: Found[S] | None = None  # where replay began
        self._journal.stand(JournalPosition())
        self._journals = {topic: Chain(accepts_resume=self._accepts_resume) for topic in self.role.journal_inputs}
        self._offsets: dict[str, int] = {}
        self._undigested = 0
        self._canonical = b""  # the state at the newest digest
        self._taken: Taken | None = None

    # --- open: claim, replay ----------------------------------------------------------------------------------------

    def open(self, *, whole: bool = False) -> None:
        """Fence the writer before, claim the journal, and replay it up to that claim; `whole`: without a snapshot.

        Raises ChainBroken or ReplayDiffers, which name the offset and want an operator.
        """
        self._journal.claim()
        found = None if whole else self._snapshots.newest(type(self.state))
        if found is None or not self._restored(found):
            self._replay(self._journal.batches())
        since_ms = self.snapshot.since_ms if self.snapshot else None
        if missing := self._edge.opened(self.state, since_ms=since_ms):
            self._journal.write_beside(missing)

    def _restored(self, found: Found[S]) -> bool:
        """Replay from a snapshot on; whether that came to its end."""
        self.state, self.snapshot = found.state, found
        self._journal.stand(found.written.at)
        self._stand(found.written.batch)
        for observer in self._observers:
            observer.restored(self.state)
        try:
            self._replay(self._journal.batches(found.written.offset + 1))
        except (ChainBroken, ReplayDiffers) as error:
            # Snapshot or journal: only the whole journal can tell which of them is wrong.
            self._snapshots.refuse(error)
            self._begin()
            return False
        return True

    def _replay(self, journal: Iterable[Written]) -> None:
        for written in journal:
            for decision in written.batch.decisions:
                self._fold(decision, written)
            self._stand(written.batch)
            self._mark(written)

    def _stand(self, batch: Batch) -> None:
        """Take the position that a batch left behind."""
        self.time_ms = self._batch_time_ms = batch.time_ms
        self._offsets = dict(batch.position.offsets)
        for topic, at in batch.position.journals.items():
            self._journals[topic].at = at

    def _fold(self, decision: Decision, written: Written) -> None:
        self._undigested += 1
        for event in decision.events:
            if isinstance(event, StateDigest) and not self._confirms(event):
                raise ReplayDiffers(f"{self._journal} offset {written.offset}: the state differs")
            self._decider.evolve(self.state, event, decision.time_ms)
        self.replayed_decisions += 1
        self._edge.replayed(decision, written.at)
        for observer in self._observers:
            observer.replayed(decision)

    def _confirms(self, stated: StateDigest) -> bool:
        if self._digest() == stated.sha256:
            return True
        self._canonical = b""  # the digest of an earlier form proves no snapshot in this one
        return self._decider.recognises(self.state, stated.sha256)

    def _digest(self) -> bytes:
        """The digest of the state as it is now; its bytes are kept for a snapshot."""
        self._undigested = 0
        self._canonical = encode_state(self.state)
        return hashlib.sha256(self._canonical).digest()

    def _mark(self, written: Written) -> None:
        """Where a batch ends in a digest, what led there need not be replayed again."""
        if self._canonical and closing_digest(written.batch):
            self._taken = Taken(self._canonical, written)

    def _keep_snapshot(self) -> None:
        taken, self._taken = self._taken, None
        if taken:
            self._canonical = b""
            self._snapshots.keep(taken)

    # --- handle: skip, decide, append, evolve -----------------------------------------------------------------------

    def expected(self, topic: str) -> int:
        """The offset from which this input still has to be decided."""
        return self._offsets.get(topic, 0)

    def skip(self, topic: str, offset: int) -> None:
        """Accept that the log holds nothing of `topic` before `offset`."""
        self._offsets[topic] = offset

    def handle(self, records: Sequence[Record]) -> None:
        """Decide each input once, in order, and commit.

        Raises Gap before anything of the gap is decided, and StateHalfApplied when the state can be used no more.
        """
        self._look_ahead(records)
        try:
            for number, record in enumerate(records, 1):
                if record.offset >= self.expected(record.topic):
                    self._take(record)
                if number % self._edge.run_max == 0:
                    self._conclude()
        finally:
            # Also where a gap ends the run: what stood before it is decided.
            self._conclude()

    def work(self) -> None:
        """Make and decide what the state waits for (releases), until it waits for nothing more; keep a snapshot."""
        for fact in self._edge.internal(self.state):
            self._add(_HOST, events=self._decide(fact))
            self._conclude()
        self._keep_snapshot()

    def employ(self, threads: Executor) -> None:
        """Let these threads work beside the caller's on what takes long; the outcome is the same without them.

        A death is then no longer that of the input in hand: a host that looks for the one that kills goes without.
        """
        self._edge.employ(threads)

    def housekeep(self) -> None:
        """Let go of what nobody needs any more; may be called at any time between two runs of inputs."""
        self._edge.housekeep(self.state, self._decided_ms)

    def wants_tick(self) -> bool:
        """Whether the passing of time alone could change something."""
        return self._edge.wants_tick(self.state)

    def close(self) -> None:
        """Let go of the journal; nothing is lost by it."""
        self._edge.close()
        self._journal.close()

    def _look_ahead(self, records: Sequence[Record]) -> None:
        """Say what comes next; but nothing is touched early while one that has failed is still to be passed."""
        if not any(at.offset >= self.expected(at.topic) for at in self.passes):
            self._edge.expect(self.state, [each for each in records if each.offset >= self.expected(each.topic)])

    def _take(self, record: Record) -> None:
        chain = self._journals.get(record.topic)
        before = chain.at if chain else None
        try:
            facts = self._facts(record)
            self.time_ms = max(self.time_ms, record.time_ms)
            events = [event for number, fact in enumerate(facts) for event in self._outcome(record, number, fact=fact)]
        except BaseException:
            if chain is not None and before is not None:
                chain.at = before  # not decided, so the position must not say that it was read
            raise
        self._offsets[record.topic] = record.offset + 1
        self._decided_ms[record.topic] = max(record.time_ms, self._decided_ms.get(record.topic, 0))
        self._idle_inputs += 1
        if events:
            self._add((record.topic, record.offset), events=events)
        if self.passes and any((record.topic, record.offset, number) in self.passes for number in range(len(facts))):
            self._commit()  # at once: a death at one of the next inputs must not bring this one back

    def _facts(self, record: Record) -> list[Any]:
        """What an input says. A journal's record says all its events; a claim or a zombie's batch says nothing."""
        chain = self._journals.get(record.topic)
        if chain is None:
            if record.offset > self.expected(record.topic):
                raise Gap(record.topic, expected=self.expected(record.topic), found=record.offset)
            return [record]
        before = chain.at
        if record.offset > self.expected(record.topic) + 1:
            # More than a marker is missing. It may be a claim, and without that a zombie's batch follows the chain.
            self._require_next(record)
        try:
            batch = chain.follow(record.offset, record.value or b"")
        except ChainBroken as error:
            self._require_next(record)
            raise ChainBroken(f"{record.topic}[{record.partition}] {error}") from error
        if batch is None and chain.at != before:
            # A claim carries nothing that ties it to the record before it, so here the log itself is asked.
            claimed, chain.at = chain.at, before
            self._require_next(record)
            chain.at = claimed
        return [] if batch is None else [event for decision in batch.decisions for event in decision.events]

    def _require_next(self, record: Record) -> None:
        """Raise Gap where the log holds a record of this journal before this one; markers leave holes too."""
        expected = self.expected(record.topic)
        if record.offset <= expected:
            return
        first = next(scan(self._log, TopicPartition(record.topic, record.partition), start=expected), record)
        if first.offset < record.offset:
            raise Gap(record.topic, expected=expected, found=record.offset)

    # --- decide, whatever comes (law 9) -----------------------------------------------------------------------------

    def _outcome(self, record: Record, number: int, *, fact: object) -> list[JournalEvent]:
        """The events of one input. It is passed as a defect where our own code fails on it, or did so before."""
        at = InputPlace(record.topic, record.offset, number)
        self.in_hand(at)
        try:
            how, error = self.passes.get(at, (SkipLevel.NOT, ""))
            if how is SkipLevel.NOT:
                try:
                    said = self._edge.fact(self.state, record) if fact is record else fact
                    return [_dropped(record)] if said is None else self._decide(said)
                except (LogError, StateHalfApplied):
                    raise  # a broker that is away says nothing about this input
                except Exception as failure:  # noqa: BLE001  whatever comes in cannot stop an actor
                    self._journal.require_alone()
                    how, error = SkipLevel.WITHOUT_BODY, self._alarm(at, failure)
            found = DefectFound(topic=at.topic, offset=at.offset, number=at.number, error=error)
            return [found, *(self._salvage(at, record, fact=fact) if how is SkipLevel.WITHOUT_BODY else ())]
        except StateHalfApplied as spoilt:
            if not isinstance(spoilt.__cause__, LogError) and self._journal.is_alone():
                self.passes[at] = Skip(SkipLevel(how + 1), self._alarm(at, spoilt.__cause__ or spoilt))
            raise
        finally:
            self.in_hand(None)

    def _salvage(self, at: InputPlace, record: Record, *, fact: object) -> list[JournalEvent]:
        """The outcome that even a defect owes to whoever sent this."""
        try:
            said = self._edge.salvaged(record, fact)
            return [] if said is None else self._decide(said)
        except (LogError, StateHalfApplied):
            raise
        except Exception as failure:  # noqa: BLE001  then it stays without an outcome of its own
            self._alarm(at, failure)
            return []

    def _decide(self, fact: object) -> list[JournalEvent]:
        """Decide and fold. Raises StateHalfApplied where a part of it is in the state already."""
        events = self._decider.decide(self.state, fact, self.time_ms)
        try:
            for event in events:
                self._decider.evolve(self.state, event, self.time_ms)
            self._edge.decided(self.state, fact, events=events)
        except Exception as error:
            raise StateHalfApplied(f"{type(fact).__name__}: {described(error)}") from error
        return events

    def _alarm(self, at: InputPlace, error: BaseException) -> str:
        self.defects += 1
        where = f"{at.topic}[{self.partition}]@{at.offset} ({at.number})"
        logger.critical("defect", actor=self.role.name, where=where, error=repr(error), exc_info=error)
        return described(error)

    # --- append -----------------------------------------------------------------------------------------------------

    def _add(self, source: tuple[str, int], *, events: Sequence[JournalEvent]) -> None:
        if not events:
            return
        topic, offset = source
        self._undigested += 1
        # In this order: counting the entries takes as long as there are tasks.
        if self._undigested >= DIGEST_EVERY and self._undigested >= self._decider.entries(self.state) // 4:
            events = [*events, StateDigest(decisions=self._undigested, sha256=self._digest())]
        decision = Decision(topic=topic, offset=offset, time_ms=self.time_ms, events=tuple(events))
        self._uncommitted.add(decision, self._position())

    def _position(self) -> Position:
        journals = {topic: chain.at for topic, chain in self._journals.items() if chain.at.claim >= 0}
        return Position(offsets=dict(sorted(self._offsets.items())), journals=journals)

    def _commit(self) -> None:
        if not self._uncommitted and not self._forced():
            return
        self._idle_inputs = 0
        self._batch_time_ms = self.time_ms
        decided = self._uncommitted.decisions
        packed = self._uncommitted.packed(self._position())
        for written in self._journal.write(packed, time_ms=self.time_ms, beside=self._edge.beside):
            self._mark(written)
        self._uncommitted = Uncommitted()
        for decision in decided:
            for observer in self._observers:
                observer.decided(decision, self._journal.seq)

    def _conclude(self) -> None:
        self._commit()
        self._edge.committed()

    def _forced(self) -> bool:
        """A position that only moved is written now and then, so that a restart need not read it all again."""
        late = self._idle_inputs > 0 and self.time_ms - self._batch_time_ms >= FORCED_AFTER_MS
        return self._idle_inputs >= FORCED_AFTER_INPUTS or late


def _dropped(record: Record) -> InputsDropped:
    return InputsDropped(topic=record.topic, count=1, first_offset=record.offset, last_offset=record.offset)
