"""Runs any decider on one partition: claim, replay, then read, decide, fold, commit, answer. Hosts call it.

Between the begin of a transaction and its end there is no half way: whatever fails there ends the process, and the next
claim finds in the journal what happened. That is why a state can be changed in place before its commit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from itertools import chain, product
from typing import Any, Generic, TypeVar

from actors.deciders.decider import Decider
from actors.deciders.tallies import TALLY_KINDS
from actors.keys import RoleKey
from actors.runtime.answers import Answers
from actors.runtime.digests import Digests
from actors.runtime.effects import Arrival, Effects
from actors.runtime.guard import Guard, InputPlace, Skip, SkipLevel, StateHalfApplied, describe, record_defect
from actors.runtime.inputs import Inputs
from actors.runtime.journal import DECISION_BYTES_MAX, DecisionTooLarge, Journal, Uncommitted
from actors.runtime.observer import Observer
from actors.runtime.replay import Opened, Replay
from actors.runtime.role import Role, may_say
from actors.runtime.snapshots import Snapshots
from schemas.canonical import encode_state
from schemas.events import InputsDropped, JournalEvent
from schemas.journal import Decision
from streams.log import EventLog, LogError, Record, TopicPartition
from streams.packing import unpack

S = TypeVar("S")

DIGEST_EVERY = 10_000
_HOST = ("", 0)  # the source of a decision on an input that the host made itself


class Actor(Generic[S]):
    """One actor on one partition. `handle` takes inputs in any batches; `work` does what the state waits for."""

    def __init__(
        self,
        role: Role,
        partition: int,
        *,
        log: EventLog,
        decider: Decider[S],
        effects: Effects[S, Any],
        key: RoleKey,
        observers: Sequence[Observer] = (),
    ) -> None:
        self.role, self.partition = role, partition
        self.guard = Guard(role.name, partition)  # a host replaces it by the one of the actor before
        self._decider, self._effects, self._observers = decider, effects, observers
        trust, journals = key.trust(), [TopicPartition(topic, partition) for topic in role.journal_inputs]
        self._inputs = Inputs(log, journals, trust=trust)
        self._journal = Journal(log, role, partition, signer=key.signer, trust=trust)
        self._digests = Digests(Snapshots(log, self._journal, signer=key.signer, trust=trust))
        self._answers, self.opened = Answers(log, key.signer), Opened(decider.initial(), 0, None)
        self.state: S = self.opened.state

    def open(self, *, whole: bool = False) -> None:
        """Claim the journal and replay it; `whole`: without a snapshot. Raises ChainBroken, ReplayDiffers."""
        self._journal.claim()
        replay = Replay(self._decider, self._effects, self._journal, self._inputs, self._digests, self._observers)
        self.opened = replay.open(whole=whole)
        self.state = self.opened.state
        if missing := self._effects.recover(self.state, since_ms=self.opened.since_ms):
            self._journal.write_missing(missing)

    def list_ends(self) -> Mapping[TopicPartition, int]:
        """How far readers must see what it has committed since it was opened."""
        return self._journal.ends

    def use_threads(self, threads: Executor) -> None:
        """Let these threads work on what takes long; a death is then no longer that of the input in hand."""
        self._effects.use_threads(threads)

    def find_expected(self, topic: str) -> int:
        """The offset from which this input still has to be decided."""
        return self._inputs.position.offsets.get(topic, 0)

    def skip(self, topic: str, offset: int) -> None:
        """Accept that the log holds nothing of `topic` before `offset`."""
        self._inputs.skip(topic, offset)

    def handle(self, records: Sequence[Record]) -> None:
        """Decide each input once, in order, and commit.

        Raises Gap before anything behind the gap is decided, and StateHalfApplied when the state can be used no more.
        """
        if self._effects.looks_ahead:
            self._effects.look_ahead(self.state, _list_due(records, self.guard, find_expected=self.find_expected))
        taken = 0
        try:
            for record in records:
                if record.offset >= self.find_expected(record.topic):
                    taken += self._take(record)
                if taken >= self._effects.inputs_per_commit_max:
                    self._commit()
                    taken = 0
        finally:
            # Also where a gap ends the run: what stood before it is decided.
            self._commit()

    def work(self) -> None:
        """Make and decide what the state waits for (releases), until it waits for nothing more; keep a snapshot."""
        if self._effects.has_work:
            for made in self._effects.make_inputs(self.state):
                self._note(*_HOST, outcomes=[self._decide(Arrival(made))])
                self._commit()
        if self._digests.noted:
            self._digests.keep_snapshot()

    def delete_unneeded(self) -> None:
        """Delete what no decision needs any more; may be called at any time between two runs of inputs."""
        self._effects.delete_unneeded(self.state, self._inputs.decided_ms)

    def wants_tick(self) -> bool:
        """Whether the passing of time alone could change something."""
        return self._effects.wants_tick(self.state)

    def close(self) -> None:
        """Release the journal; nothing is lost by it."""
        self._effects.close()
        self._inputs.close()
        self._journal.close()

    def _take(self, record: Record) -> int:
        given, outcomes = self._inputs.read(record), list[list[JournalEvent]]()
        try:
            _look_up(self._effects, given)
            for number, said in enumerate(given):
                outcomes.append(self._outcome(record, number, said=said))
        except BaseException as error:
            self._inputs.unread(record)
            if any(outcomes) and isinstance(error, LogError):
                # The record comes again, and the state already holds a part of it.
                raise StateHalfApplied(f"{record.topic}@{record.offset}: {describe(error)}") from error
            raise
        is_one = record.topic in self._inputs.journals
        self._note(record.topic, record.offset, outcomes=_join(outcomes) if is_one else outcomes)
        if self.guard.skips and self.guard.skips_any(record, len(given)):
            self._commit()  # at once: a death at one of the next inputs must not bring this one back
        return len(given)

    def _outcome(self, record: Record, number: int, *, said: Record | JournalEvent) -> list[JournalEvent]:
        """The events of one input, which is passed as a defect where our own code fails on it, or did so before."""
        place = InputPlace(record.topic, record.offset, number)
        if self.guard.mark_in_hand:
            self.guard.mark_in_hand(place)
        skip = self.guard.skips.get(place)
        try:
            outcome = skip or self._attempt(place, record, said=said)
            if not isinstance(outcome, Skip):
                return outcome
            skip = outcome
            owed = () if skip.level is SkipLevel.ENTIRELY else self._fall_back(place, record, said=said)
            return [record_defect(place, skip.error), *owed]
        except StateHalfApplied as half:
            if not isinstance(half.__cause__, LogError) and self._journal.is_alone():
                self.guard.skip_next_time(place, half.__cause__ or half, after=skip)
            raise
        finally:
            if self.guard.mark_in_hand:
                self.guard.mark_in_hand(None)

    def _attempt(self, place: InputPlace, record: Record, *, said: Record | JournalEvent) -> list[JournalEvent] | Skip:
        """The events of one input; or that it has to be skipped, because our own code fails on it."""
        try:
            if isinstance(said, Record):
                arrival = self._effects.read(self.state, said)
            else:
                arrival = self._effects.receive(said) if may_say(record.topic, said) else None
            return [_drop(record)] if arrival is None else self._decide(arrival)
        except (LogError, StateHalfApplied):
            raise  # a broker that is away says nothing about this input
        except Exception as failure:  # noqa: BLE001  whatever comes in cannot stop an actor
            self._journal.require_alone()
            return Skip(SkipLevel.WITHOUT_BODY, self.guard.raise_alarm(place, failure))

    def _fall_back(self, place: InputPlace, record: Record, *, said: Record | JournalEvent) -> list[JournalEvent]:
        """The outcome that even a defect owes to the sender of this input."""
        try:
            owed = self._effects.fallback_input(self.state, record, said=said)
            return [] if owed is None else self._decide(Arrival(owed))
        except (LogError, StateHalfApplied):
            raise
        except Exception as failure:  # noqa: BLE001  then it stays without an outcome of its own
            self.guard.raise_alarm(place, failure)
            return []

    def _decide(self, arrival: Arrival) -> list[JournalEvent]:
        """Decide and fold. Raises StateHalfApplied where a part of it is in the state already."""
        time_ms = self._inputs.time_ms
        events = self._decider.decide(self.state, arrival.input, time_ms)
        if (size := len(encode_state(events))) > self._journal.left_bytes:
            raise DecisionTooLarge(f"{size} bytes, and a record has {self._journal.left_bytes} left")
        self._journal.left_bytes -= size
        try:
            for event in events:
                self._decider.evolve(self.state, event, time_ms)
            follow_up = self._effects.follow_up(self.state, arrival, events=events, time_ms=time_ms)
        except Exception as error:
            raise StateHalfApplied(f"{type(arrival.input).__name__}: {describe(error)}") from error
        self._answers.waiting += follow_up.answers
        self._journal.extra_records += follow_up.extra_records
        return events

    def _note(self, topic: str, offset: int, *, outcomes: Sequence[list[JournalEvent]]) -> None:
        """Keep the decisions on one record for the next commit; with a digest, where one is due."""
        self._journal.left_bytes = DECISION_BYTES_MAX
        if not any(outcomes):
            return
        # Not for what only counts, or strangers could have the whole state written again and again.
        if folded := [events for events in outcomes if not TALLY_KINDS.issuperset(map(type, events))]:
            # In this order: counting the entries takes as long as there are tasks.
            due = self._digests.undigested = self._digests.undigested + len(folded)
            if due >= DIGEST_EVERY and due >= self._decider.entries(self.state) // 4:
                # Behind all that this record changes: the state in hand is the one after its last message.
                folded[-1].append(self._digests.take(self.state))
        decisions = _make_decisions(outcomes, topic=topic, offset=offset, time_ms=self._inputs.time_ms)
        extra_records, self._journal.extra_records = self._journal.extra_records, []
        self._journal.uncommitted.append(Uncommitted(decisions, self._inputs.position, extra_records))

    def _commit(self) -> None:
        """Write what is decided, or a position that only moved for long; then answer the devices."""
        if self._journal.uncommitted or self._inputs.is_write_due():
            for written in self._journal.commit(self._inputs.position, time_ms=self._inputs.time_ms):
                if self._digests.canonical:
                    self._digests.mark(written)
                for observer, decision in product(self._observers, written.batch.decisions):
                    observer.note_decided(decision, written.batch.seq)
            # Set here and not by a method of inputs: this is on the road of every update.
            self._inputs.unwritten, self._inputs.written_ms = 0, self._inputs.time_ms
        if self._answers.waiting:
            self._answers.send()


def _look_up(effects: Effects[Any, Any], given: Sequence[Record | JournalEvent]) -> None:
    """Before the first is decided: where no broker answers, the record has to come again as a whole."""
    if heard := [said for said in given if not isinstance(said, Record)]:
        effects.look_up(heard)


def _list_due(records: Sequence[Record], guard: Guard, *, find_expected: Callable[[str], int]) -> list[Record]:
    """The messages that are decided next; nothing is touched early while an input that has failed is to be skipped."""
    if any(place.offset >= find_expected(place.topic) for place in guard.skips):
        return []
    due = (record for record in records if record.offset >= find_expected(record.topic))
    return [*chain.from_iterable(map(unpack, due))]


def _join(outcomes: Sequence[list[JournalEvent]]) -> list[list[JournalEvent]]:
    """What another actor has written in one record is decided as one; messages have nothing to do with each other."""
    return [[*chain.from_iterable(outcomes)]]


def _make_decisions(
    outcomes: Sequence[Sequence[JournalEvent]], *, topic: str, offset: int, time_ms: int
) -> list[Decision]:
    return [
        Decision(topic=topic, offset=offset, time_ms=time_ms, events=tuple(events), message=message)
        for message, events in enumerate(outcomes)
        if events
    ]


def _drop(record: Record) -> InputsDropped:
    return InputsDropped(topic=record.topic, count=1, first_offset=record.offset, last_offset=record.offset)
