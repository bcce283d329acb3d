"""Effects of the aggregator: updates come in checked and measured, running sums grow, releases are stored.

The subjects stand in modules of their own; this one says in which order they meet.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial

import structlog

from actors.deciders.admission import UpdateChecked, refusal
from actors.deciders.aggregator import AggregatorInput
from actors.deciders.aggregator_state import Rounds, Task
from actors.deciders.arithmetic import noise
from actors.deciders.epochs import waits_for_time
from actors.deciders.masking.hearing import MasksUnusable
from actors.effects.aggregator.bodies import Bodies
from actors.effects.aggregator.intake import Intake, UpdateBody
from actors.effects.aggregator.partials import PATIENCE_S, Partials
from actors.effects.aggregator.release import Releases
from actors.effects.aggregator.retention import Retention
from actors.effects.aggregator.round_sums import RoundSums
from actors.effects.aggregator.submissions import Submission, locate_body, verify_update
from actors.effects.aggregator.summation import Measured, choose_summation
from actors.effects.masking.unmasking import hear_helper
from actors.effects.published import Published, state_versions
from actors.effects.scores import read_score
from actors.effects.sealing.epoch_keys import EpochKeyMissing
from actors.effects.sealing.turning import Turning
from actors.keys import PartialSeals, RoleKey
from actors.runtime.effects import Arrival, Effects, FollowUp
from schemas.canonical import TASK_BYTES_MAX, MalformedError, encode
from schemas.creations import find_faults, find_misplacement, parse_task_event
from schemas.events import (
    BodyFault,
    CountedReason,
    JournalEvent,
    Noticed,
    Outcome,
    PopulationBudgetSet,
    RefusalReason,
    RoundAbandoned,
    TaskCreated,
    Tick,
    UpdateAdmitted,
    UpdateRefused,
    UpdatesDeclined,
)
from schemas.identifiers import SALT_BYTES, BodyRef
from schemas.journal import Decision, JournalPosition
from schemas.topics import EVALUATIONS, MASKS, SHARDS, TASKS, UPDATES, partition_of
from streams.log import Draft, EventLog, Record

INPUTS_PER_COMMIT_WITH_SHARDS = 32
_TICK = encode(Tick())
_NOT_LOOKED_AT = Measured(None)

logger = structlog.get_logger()


class AggregatorEffects(Effects[Rounds, AggregatorInput]):
    """Everything of the aggregator that touches bytes, vectors or the log."""

    def __init__(self, log: EventLog, partition: int, *, key: RoleKey) -> None:
        self._log, self._trust = log, key.trust()
        self._intake = Intake(Bodies(log, partition))
        self._turning = Turning(key)
        self._sums = RoundSums(self._intake, Partials(log, partition, PartialSeals(key)), self._turning.keys)
        self._releases = Releases(log, partition, key=key.noise, fetch=self._intake.fetch)
        self._published = Published(log, state_versions(partition), key=key)
        self._retention = Retention(log, partition)
        # Verified by `look_ahead`, by offset in `updates` and number in the record.
        self._ahead: dict[tuple[int, int], Submission | None] = {}
        self.has_work = True

    # --- before a decision: read ------------------------------------------------------------------------------------

    def use_threads(self, threads: Executor) -> None:
        """Fetch, open and add bodies beside the actor's thread, and wait for shard workers."""
        self._intake.use_threads(threads)
        self._releases.noise.use_threads(threads)
        self._sums.partials.patience_s = PATIENCE_S
        self.looks_ahead = True

    def look_ahead(self, state: Rounds, records: Sequence[Record]) -> None:
        """Check seals and signatures of the updates that come next, and start to fetch their bodies."""
        self._ahead = {}
        self._intake.expect(self._bodies_ahead(state, records))

    def _bodies_ahead(self, state: Rounds, records: Sequence[Record]) -> Iterator[UpdateBody]:
        leases: set[str] = set()
        for record in records:
            if record.topic != UPDATES.name:
                continue
            # Whatever fails here fails again, and gets its outcome, when the record's turn comes.
            with contextlib.suppress(Exception):
                self._ahead[record.offset, record.message] = submission = verify_update(record, self._trust)
                # A body in the record itself is there already: fetching it would read the record again.
                if submission is None or submission.inline is not None or submission.lease.lease in leases:
                    continue
                leases.add(submission.lease.lease)
                task = state.tasks.get(submission.lease.task)
                if task and refusal(state, submission.lease, append_ms=submission.append_ms) is None:
                    body = locate_body(task.created, submission)
                    if isinstance(body, BodyRef) and not self._sums.partials.expects(body):
                        yield UpdateBody(choose_summation(task.created, self._turning.keys), body, submission.lease)

    def read(self, state: Rounds, record: Record) -> Arrival | None:
        """The input in a record of `tasks`, `updates` or `evaluations`; None for junk."""
        data = record.value or b""
        try:
            if record.topic == TASKS.name:
                return self._read_task_event(record)
            if record.topic == EVALUATIONS.name:
                score = read_score(state, record, trust=self._trust, fetch=self._intake.fetch)
                return None if score is None else Arrival(score)
            if record.topic == MASKS.name:
                return hear_helper(state, data, partition=record.partition)
            return Arrival(Tick()) if data == _TICK else self._read_update(state, record)
        except MalformedError:
            return None

    def _read_task_event(self, record: Record) -> Arrival | None:
        """What the operator wrote about this deployment; None for what nobody, or our law, vouches for."""
        data = record.value or b""
        # It has to fit into one journal record, beside the position, when it is noticed there.
        event = parse_task_event(record, self._trust.operator) if len(data) <= TASK_BYTES_MAX else None
        if event is None or event.deployment != self._trust.deployment:
            return None
        # All that a full replay checks, before a version can come of it: unknown means refuse.
        if isinstance(event, PopulationBudgetSet):
            return Arrival(event) if _is_home(event, record, partitions=self._log.partitions) else None
        if isinstance(event, TaskCreated):
            misplaced = find_misplacement(event, record.partition, partitions=self._log.partitions)
            faults = [*misplaced, *find_faults(event)]
            if faults:
                logger.error("task_refused", task=event.task, faults=faults)
                return None
        return Arrival(event)

    def _read_update(self, state: Rounds, record: Record) -> Arrival | None:
        """An update under a valid lease; its vector is the payload, where the outcome depends on the body at all."""
        at = (record.offset, record.message)
        submission = self._ahead.pop(at) if at in self._ahead else verify_update(record, self._trust)
        if submission is None:
            return None
        task = state.tasks.get(submission.lease.task)
        body = None if task is None else locate_body(task.created, submission)
        reason = refusal(state, submission.lease, append_ms=submission.append_ms)
        found = _NOT_LOOKED_AT
        if reason is None and task is not None and body is not None:
            try:
                found = self._measure(task, submission, body=body)
            except EpochKeyMissing:
                # What follows for the rounds under it is decided next, from the folder itself.
                reason, self.has_work = "epoch_over", True
        return Arrival(_check(submission, reason=reason, found=found), found)

    def _measure(self, task: Task, submission: Submission, *, body: BodyRef | BodyFault) -> Measured:
        if not isinstance(body, BodyRef):
            return Measured(None, fault=body)
        stored = UpdateBody(choose_summation(task.created, self._turning.keys), body, submission.lease)
        if submission.inline is not None:
            return stored.measure(submission.inline)
        if body.topic == SHARDS.name:
            return self._sums.partials.find_measured(task, stored) or self._intake.measure(stored)
        return self._intake.measure(stored)

    def fallback_input(self, state: Rounds, record: Record, *, said: Record | JournalEvent) -> UpdateChecked | None:
        """An update under a lease keeps its outcome; with privacy its slot, as a zero vector."""
        if record.topic != UPDATES.name or record.value == _TICK:
            return None
        try:
            submission = verify_update(record, self._trust)
        except MalformedError:
            return None
        if submission is None:
            return None
        reason = refusal(state, submission.lease, append_ms=submission.append_ms)
        return _check(submission, reason=reason, found=Measured(None, fault="defect"))

    # --- after a decision: add, answer, publish ---------------------------------------------------------------------

    def follow_up(self, state: Rounds, arrival: Arrival, *, events: Sequence[JournalEvent], time_ms: int) -> FollowUp:
        """Add what was admitted, announce what was published, and answer the device."""
        update, answers, extra_records = arrival.input, [], []
        self._turning.time_ms = time_ms
        if isinstance(update, UpdateChecked):
            answers = [_answer(state.tasks.get(update.lease.task), update, events=events)]
        for event in events:
            match event:
                case UpdateAdmitted():
                    found = arrival.payload if isinstance(arrival.payload, Measured) else None
                    self._sums.add(state.tasks[event.task], event, found=found)
                    continue
                case UpdateRefused() | UpdatesDeclined():
                    continue
                case RoundAbandoned():
                    self._sums.drop(event.task, event.round)
                case Noticed(fact=TaskCreated() as created):
                    self._begin(created)
            self._releases.note(state, event)
            if self._published.announces(event):
                extra_records.append(partial(self._published.announce, event, time_ms=time_ms))
            self._retention.note(state, event)
            self.has_work = True
        if isinstance(update, Tick):
            self.has_work = self.has_work or self._turning.is_due(state.tasks.values())
        return FollowUp(answers=answers, extra_records=extra_records)

    def _begin(self, created: TaskCreated) -> None:
        """Get ready for a task that is created, or found open."""
        if created.policy.shard_count > 1:
            # A shard worker keeps what it has opened in memory until it reads of the admission.
            self.inputs_per_commit_max = INPUTS_PER_COMMIT_WITH_SHARDS
        if created.policy.privacy is not None:
            noise.prepare(created.policy.sigma)

    def make_inputs(self, state: Rounds) -> Iterator[AggregatorInput]:
        """Turn epochs, and compute and store each release that is awaited."""
        for task in state.tasks.values():
            yield from self._turning.make_inputs(task)
            while (awaited := task.find_awaited()) is not None:
                total = self._sums.total(task, awaited)
                if isinstance(total, MasksUnusable):
                    yield total
                    continue
                reports, compared = self._sums.sum_reports(task, awaited), self._sums.take_compared(task, awaited)
                yield self._releases.make(task, awaited, total=total, metrics=reports, compared=compared)
            # A version may have been the last of its epoch, or of the task.
            yield from self._turning.make_inputs(task)
        self.has_work = False

    # --- opening, deleting, closing ---------------------------------------------------------------------------------

    def remember(self, decision: Decision, position: JournalPosition) -> None:
        """Take note of what `published` must hold."""
        self._published.remember(decision, position)

    def recover(self, state: Rounds, *, since_ms: int | None) -> list[Draft]:
        """Versions that `published` lacks."""
        for task in state.tasks.values():
            if task.status != "halted" or task.pending:
                self._begin(task.created)
        return self._published.find_missing(since_ms=since_ms)

    def delete_unneeded(self, state: Rounds, decided_ms: Mapping[str, int]) -> None:
        """Delete models that newer versions replace, and bodies that no round and no undecided update can need."""
        self._retention.delete_unneeded(state, decided_ms)

    def wants_tick(self, state: Rounds) -> bool:
        """A task may fall idle, a round end by time, and a key be needed no more."""
        return any(
            task.status == "open" or task.may_end_by_time() or waits_for_time(task) for task in state.tasks.values()
        )

    def close(self) -> None:
        """Release readers and threads."""
        self._intake.close()
        self._sums.partials.close()


def _is_home(allowed: PopulationBudgetSet, record: Record, *, partitions: int) -> bool:
    """Whether the tasks of a population live where its budget stands: elsewhere it would bind nobody."""
    if partition_of(allowed.population, partitions) == record.partition:
        return True
    logger.error("budget_misplaced", population=allowed.population, partition=record.partition)
    return False


def _check(submission: Submission, *, reason: RefusalReason | CountedReason | None, found: Measured) -> UpdateChecked:
    """An update as the decision sees it."""
    return UpdateChecked(
        lease=submission.lease,
        record_sha256=submission.record_sha256,
        body=submission.body,
        samples=submission.samples,
        metrics=submission.metrics,
        fidelity=submission.fidelity,
        append_ms=submission.append_ms,
        submitted_at=submission.submitted_at,
        refusal=reason,
        clip_scale=found.scale,
        fault=found.fault,
        salt=os.urandom(SALT_BYTES),
    )


def _answer(task: Task | None, update: UpdateChecked, *, events: Sequence[JournalEvent]) -> Outcome:
    """What the device is told; a repeated update gets its first outcome again."""
    lease = update.lease
    match events:
        case [UpdateRefused(reason=reason)]:
            outcome = str(reason)
        case [UpdatesDeclined(counts=counts)] if "duplicate" not in counts:
            [outcome] = counts
        case _:
            found = task.outcomes.find(lease.lease) if task is not None else None
            assert found is not None
            outcome = found
    return Outcome(
        device=lease.device,
        task=lease.task,
        update=lease.lease,
        record_sha256=update.record_sha256,
        outcome=outcome,
    )


def make_effects(log: EventLog, partition: int, *, key: RoleKey) -> AggregatorEffects:
    """The effects of the role on one partition."""
    return AggregatorEffects(log, partition, key=key)
