"""The aggregator's edge: updates come in checked and decoded, running sums are kept, releases are stored."""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace

import numpy as np
import structlog

from actors.deciders.aggregator import KeyMissing, ReleaseStored, UpdateChecked, refusal
from actors.deciders.aggregator_state import Round, Rounds, Task
from actors.deciders.arithmetic import sums
from actors.deciders.arithmetic.optimizers import MOMENTS
from actors.effects.aggregator import release as releases
from actors.effects.aggregator.bodies import Bodies
from actors.effects.aggregator.intake import Intake, Measured, Wanted, measured
from actors.effects.aggregator.model_cache import ModelCache, Newest
from actors.effects.aggregator.partials import PATIENCE_S, Partials, by_partition, own
from actors.effects.aggregator.submissions import Leased, leased, wanted
from actors.keys import OperatorKey, PartialSeals, Seals
from actors.runtime.effects import Effects, tell
from schemas.canonical import TASK_BYTES_MAX, MalformedError, decode, encode
from schemas.events import (
    BodyFault,
    JournalEvent,
    ModelPublished,
    Outcome,
    RoundAbandoned,
    TaskEvent,
    TaskHalted,
    Tick,
    UpdateAdmitted,
    UpdateRefused,
    VersionEvaluated,
)
from schemas.identifiers import BodyRef
from schemas.journal import Batch, Decision, JournalPosition
from schemas.leases import Lease
from schemas.published import Head, describe_version, sign_statement, version_id
from schemas.tensors import Floats, Grid, Quanta, pack, unpack
from schemas.topics import (
    ANSWERS,
    BODIES,
    EVALUATIONS,
    MODELS,
    PUBLISHED,
    ROUNDS,
    SHARDS,
    TASKS,
    UPDATES,
    partition_of,
)
from streams.bodies import discard, store
from streams.log import Draft, EventLog, Record, TopicPartition, scan

logger = structlog.get_logger()

RUN_MAX = 32
# Journal and `published` may have leaders with clocks of their own.
CLOCKS_DIFFER_MS_MAX = 3_600_000


class AggregatorEffects(Effects[Rounds]):
    """Everything of the aggregator that touches bytes, vectors or the log."""

    def __init__(self, log: EventLog, partition: int, *, key: OperatorKey) -> None:
        self._log, self._partition, self._key = log, partition, key
        self._seals = Seals(key)
        self._intake = Intake(Bodies(log, partition))
        self._partials = Partials(log, partition, PartialSeals(key))
        self._coming: dict[int, Leased | None] = {}  # by offset in `updates`
        self._sums: dict[tuple[str, int], sums.RunningSum] = {}
        self._newest = ModelCache()
        self._quanta: Quanta | None = None  # of the update that is being decided
        self._answers: list[Draft] = []
        self._outdated: list[BodyRef] = []
        self._replayed: dict[str, tuple[ModelPublished, int, JournalPosition]] = {}

    # --- facts ------------------------------------------------------------------------------------------------------

    def fact(self, state: Rounds, record: Record) -> object | None:
        """What a record of `tasks`, `updates` or `evaluations` says; None for junk."""
        data = record.value or b""
        try:
            if record.topic == TASKS.name:
                # Noticed in the journal it has to fit into one record, beside the position.
                return None if len(data) > TASK_BYTES_MAX else decode(data, TaskEvent)  # type: ignore[arg-type]
            if record.topic == EVALUATIONS.name:
                return decode(data, VersionEvaluated)
            return Tick() if data == encode(Tick()) else self._update(state, record)
        except MalformedError:
            return None

    def employ(self, threads: Executor) -> None:
        """Bodies are fetched, opened and added beside the actor's thread; shard workers are waited for."""
        self._intake.employ(threads)
        self._partials.patience_s = PATIENCE_S

    def expect(self, state: Rounds, records: Sequence[Record]) -> None:
        """Check seals and signatures of what comes next, and begin to fetch its bodies."""
        if self._intake.looks_ahead:
            self._coming = {}
            self._intake.expect(self._expected(state, records))

    def _expected(self, state: Rounds, records: Sequence[Record]) -> Iterator[Wanted]:
        leases: set[str] = set()
        for record in records:
            if record.topic != UPDATES.name:
                continue
            with contextlib.suppress(Exception):  # it comes again, and has its outcome, when the record's turn comes
                self._coming[record.offset] = submitted = leased(record, self._seals)
                if submitted is not None and submitted.update.lease.lease not in leases:
                    leases.add(submitted.update.lease.lease)
                    body = _wanted(state, submitted)
                    if isinstance(body, Wanted) and not self._partials.tells_of(body.ref):
                        yield body

    def _update(self, state: Rounds, record: Record) -> UpdateChecked | None:
        at = record.offset
        submitted = self._coming.pop(at) if at in self._coming else leased(record, self._seals)
        if submitted is None:
            return None
        found = self._measured(state, submitted)
        self._quanta = found.quanta
        return replace(submitted.update, clip_scale=found.scale, fault=found.fault)

    def _measured(self, state: Rounds, submitted: Leased) -> Measured:
        """What is in a body, where that can matter."""
        body = _wanted(state, submitted)
        if not isinstance(body, Wanted):
            return Measured(None, fault=body)
        if submitted.inline is not None:
            return measured(body.created, submitted.inline)
        if body.ref.topic != SHARDS.name:
            return self._intake.take(body)
        self.run_max = RUN_MAX  # a shard worker holds what it has opened until it reads of the admission
        return self._partials.measured(state.tasks[body.created.task], body) or self._intake.take(body)

    def salvaged(self, record: Record, fact: object) -> object | None:
        """An update under a lease keeps its outcome; with privacy its slot, as a zero vector."""
        self._quanta = None
        if record.topic != UPDATES.name or record.value == encode(Tick()):
            return None
        submitted = leased(record, self._seals)
        return submitted and replace(submitted.update, fault="defect")

    # --- after a decision -------------------------------------------------------------------------------------------

    def decided(self, state: Rounds, fact: object, *, events: Sequence[JournalEvent]) -> None:
        """Add what was admitted, and note the answer to the device."""
        for event in events:
            match event:
                case UpdateAdmitted():
                    self._add(state.tasks[event.task], event)
                case ModelPublished():
                    self._outdated += state.tasks[event.task].outdated()
                case TaskHalted():
                    self._newest.drop(event.task)
                case RoundAbandoned():
                    self._sums.pop((event.task, event.round), None)
        if isinstance(fact, UpdateChecked):
            self._answer(state.tasks.get(fact.lease.task), fact.lease, events=events)
        self._quanta = None

    def _add(self, task: Task, admitted: UpdateAdmitted) -> None:
        if admitted.body.topic == SHARDS.name:
            return  # a part of its own, which its shard worker adds
        key = (admitted.task, admitted.round)
        if key not in self._sums:
            # The first of its round, or the first after a restart: then those before it are added anew.
            before = [member for member in _members(task, admitted.round) if member.update != admitted.update]
            self._sums[key] = self._summed(task, own(before))
        if admitted.zeroed is None and self._quanta is not None:
            self._intake.add(self._sums[key], self._quanta, weight=admitted.weight, scale=admitted.clip_scale)

    def _answer(self, task: Task | None, lease: Lease, *, events: Sequence[JournalEvent]) -> None:
        match events:
            case [UpdateRefused(reason=reason), *_] if reason != "duplicate":
                outcome = str(reason)
            case _:
                outcome = task.outcomes[lease.lease][0] if task else "unknown_task"
        answer = Outcome(device=lease.device, task=lease.task, update=lease.lease, outcome=outcome)
        self._answers.append(
            Draft(
                topic=ANSWERS.name,
                partition=partition_of(lease.device),
                value=encode(answer),
                key=lease.device.encode(),
            )
        )

    def beside(self, batch: Batch, at: JournalPosition) -> list[Draft]:
        """`published` records of this batch."""
        return [
            self._announcement(event, decision.time_ms, at=at)
            for decision in batch.decisions
            for event in decision.events
            if isinstance(event, ModelPublished)
        ]

    def _announcement(self, event: ModelPublished, time_ms: int, *, at: JournalPosition) -> Draft:
        head = Head(topic=ROUNDS.name, partition=self._partition, seq=at.seq, head=at.head.hex())
        value = sign_statement(describe_version(event, time_ms, head=head), self._key.checkpoint)
        return Draft(topic=PUBLISHED.name, partition=self._partition, value=value, key=event.task.encode())

    def committed(self) -> None:
        """Tell the devices what the journal now holds."""
        answers, self._answers = self._answers, []
        if answers:
            tell(self._log, answers)

    # --- opening ----------------------------------------------------------------------------------------------------

    def replayed(self, decision: Decision, at: JournalPosition) -> None:
        """Remember what `published` must hold."""
        for event in decision.events:
            if isinstance(event, ModelPublished):
                self._replayed[version_id(event)] = (event, decision.time_ms, at)

    def opened(self, state: Rounds, *, since_ms: int | None) -> list[Draft]:
        """Versions that replay has met and `published` does not hold."""
        if not self._replayed:
            return []
        place = TopicPartition(PUBLISHED.name, self._partition)
        start = None if since_ms is None else self._log.first_since(place, since_ms - CLOCKS_DIFFER_MS_MAX)
        there = {json.loads(record.value or b"{}").get("id") for record in scan(self._log, place, start=start)}
        replayed = [told for event_id, told in self._replayed.items() if event_id not in there]
        missing = [self._announcement(event, time_ms, at=at) for event, time_ms, at in replayed]
        self._replayed = {}
        return missing

    # --- releases ---------------------------------------------------------------------------------------------------

    def internal(self, state: Rounds) -> Iterable[object]:
        """Compute and store each release that is awaited."""
        for task in state.tasks.values():
            while (awaited := task.awaited()) is not None:
                yield self._release(task, awaited)

    def _release(self, task: Task, awaited: Round) -> ReleaseStored | KeyMissing:
        created, name = task.created, task.created.task
        assert awaited.proposed is not None
        start = self._start(task)
        total = self._total(task, awaited)
        try:
            result = releases.release(created, awaited.proposed, total=total, start=start, key=self._key)
        except releases.NoiseKeyMissing as error:
            logger.error("noise key missing", task=name, round=awaited.id, error=str(error))
            return KeyMissing(task=name, round=awaited.id)
        model = self._store(name, result.model)
        moments = None if result.moments is None else self._store(name, result.moments)
        self._newest.put(name, Newest(model.sha256, result.model, result.moments))
        return ReleaseStored(task=name, round=awaited.id, sum_sha256=result.sum_sha256, model=model, moments=moments)

    def _total(self, task: Task, awaited: Round) -> Grid:
        """The running sum, or one made anew where a restart came after the proposal; and what shard workers added."""
        self._intake.settle()
        running = self._sums.pop((task.created.task, awaited.id), None)
        total = (running or self._summed(task, own(awaited.members.values()))).total()
        for members in by_partition(awaited.members.values()).values():
            total = total + self._partial(task, awaited.id, members=members)
        return total

    def _partial(self, task: Task, round_id: int, *, members: list[UpdateAdmitted]) -> Grid:
        """The sum of members whose bodies lie in one partition: as its shard worker has stored it, or made here."""
        told = self._partials.stored(task, round_id, members=members)
        data = None if told is None else self._intake.find(told.body)
        if isinstance(data, bytes) and len(data) == 8 * task.created.parameters:
            return np.frombuffer(data, "<i8")
        return self._summed(task, members).total()

    def _summed(self, task: Task, members: Iterable[UpdateAdmitted]) -> sums.RunningSum:
        return releases.round_sum(task.created, members, fetch=self._intake.fetch)

    def _start(self, task: Task) -> tuple[Floats, Floats | None]:
        assert task.model is not None
        newest = self._newest.get(task.created.task, task.model.sha256)
        if newest is not None:
            return newest.model, newest.moments
        parameters = task.created.parameters
        model = unpack(self._intake.fetch(task.model), "float32", count=parameters)
        if task.moments is None:
            return model, None
        count = MOMENTS[task.created.policy.optimizer.rule] * parameters
        return model, unpack(self._intake.fetch(task.moments), "float32", count=count)

    def _store(self, task: str, array: Floats) -> BodyRef:
        # A name of its own for each attempt: compaction keeps one body a name, and a zombie may still store its own.
        name = f"{task}/{secrets.token_hex(8)}"
        place = TopicPartition(MODELS.name, self._partition)
        return store(self._log, place, data=pack(array), upload_id=name, codec="float32")

    def housekeep(self, state: Rounds, decided_ms: Mapping[str, int]) -> None:
        """Let go of models that have left, and of bodies that no unpublished round or undecided update can need."""
        discard(self._log, self._outdated)
        self._outdated = []
        if not state.tasks or UPDATES.name not in decided_ms:
            return
        at = TopicPartition(BODIES.name, self._partition)
        hours = max(task.created.policy.retention.body_hours for task in state.tasks.values())
        aged = self._log.first_since(at, decided_ms[UPDATES.name] - round(hours * 3_600_000))
        needed = [
            member.body.offsets[0]
            for task in state.tasks.values()
            for buffer in [*task.pending, *([task.buffer] if task.buffer else [])]
            for member in buffer.members.values()
            if member.zeroed is None and member.body.topic == BODIES.name
        ]
        before = min([aged, *needed])
        if before > self._log.bounds(at).beginning:
            self._log.delete_records(at, before)
            logger.info("bodies deleted", partition=self._partition, before_offset=before)

    def close(self) -> None:
        """Release readers and threads."""
        self._intake.close()
        self._partials.close()

    def wants_tick(self, state: Rounds) -> bool:
        """A task may fall idle."""
        return any(task.status == "open" for task in state.tasks.values())


def _wanted(state: Rounds, submitted: Leased) -> Wanted | BodyFault | None:
    """The body on which an update hangs; None where it is refused whatever its body is."""
    lease = submitted.update.lease
    task = state.tasks.get(lease.task)
    if task is None or refusal(task, lease, append_ms=submitted.update.append_ms) is not None:
        return None
    return wanted(task.created, submitted)


def _members(task: Task, round_id: int) -> Iterable[UpdateAdmitted]:
    rounds = [*task.pending, *([task.buffer] if task.buffer else [])]
    return next((buffer.members.values() for buffer in rounds if buffer.id == round_id), ())


def make_effects(log: EventLog, partition: int, *, key: OperatorKey) -> AggregatorEffects:
    """The effects of the role on one partition."""
    return AggregatorEffects(log, partition, key=key)
