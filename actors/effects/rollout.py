"""Effects of the rollout: signed scores and what the aggregator says come in, each step is announced in `published`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from actors.deciders.rollout import RolloutInput, Rollouts
from actors.effects.operator_events import OperatorEvents
from actors.effects.published import Published, state_steps
from actors.keys import RoleKey
from actors.runtime.effects import Arrival, Effects, FollowUp
from actors.runtime.meter import Instruments, Meter
from schemas.canonical import TASK_BYTES_MAX, MalformedError, encode
from schemas.certificates import read_evaluation
from schemas.events import (
    CanaryGrown,
    CanaryStarted,
    CandidateStaged,
    JournalEvent,
    Promoted,
    RolledBack,
    RolloutHalted,
    RolloutOrdered,
    RolloutResumed,
    TaskCreated,
    Tick,
)
from schemas.journal import Decision, JournalPosition
from schemas.topics import CLOCK
from streams.log import Draft, EventLog, Record

_TICK = encode(Tick())
_HEARD = (TaskCreated, RolloutOrdered, CandidateStaged)


class RolloutEffects(Effects[Rollouts, RolloutInput]):
    """Checks signatures before a decision, announces what was decided in the transaction that decides it."""

    def __init__(self, log: EventLog, partition: int, *, key: RoleKey) -> None:
        self._trust, self._operator_events = key.trust(), OperatorEvents(log, partition, key=key)
        self._published = Published(log, state_steps(partition), key=key)
        self._time_ms = 0

    def read(self, state: Rollouts, record: Record) -> Arrival | None:
        """What a certified evaluator says, or a tick."""
        # A tick needs no signature: all that it does is let log time pass, as every record does.
        if record.topic == CLOCK.name:
            return Arrival(Tick()) if record.value == _TICK else None
        # What is noticed has to fit into one journal record, beside the position.
        if len(record.value or b"") > TASK_BYTES_MAX:
            return None
        try:
            evaluated = read_evaluation(record.value or b"", self._trust, at_ms=record.time_ms)
        except MalformedError:
            return None
        return None if evaluated is None else Arrival(evaluated)

    def look_up(self, said: Sequence[JournalEvent]) -> None:
        """Read what the operator signed, as far as these events need it. Raises LogUnavailable."""
        self._operator_events.look_up(said)

    def receive(self, said: JournalEvent) -> Arrival | None:
        """What the aggregator says; a policy or an order only where the operator signed it."""
        return Arrival(said) if self._operator_events.vouch_for(said) else None

    def follow_up(self, state: Rollouts, arrival: Arrival, *, events: Sequence[JournalEvent], time_ms: int) -> FollowUp:
        """The announcement of each step."""
        self._time_ms = max(self._time_ms, time_ms)
        steps = filter(self._published.announces, events)
        return FollowUp(extra_records=[partial(self._published.announce, step, time_ms=time_ms) for step in steps])

    def remember(self, decision: Decision, position: JournalPosition) -> None:
        """Take note of what must stand in `published`."""
        self._published.remember(decision, position)

    def recover(self, state: Rollouts, *, since_ms: int | None) -> list[Draft]:
        """Announcements that an earlier life should have written."""
        return self._published.find_missing(since_ms=since_ms)

    def wants_tick(self, state: Rollouts) -> bool:
        """Whether a stage or the patience with a candidate ends later than the log has got."""
        return state.find_deadline_ms() > self._time_ms


class RolloutMeter(Meter):
    """Shows which version is promoted and in which stage its candidate is, and counts what went wrong."""

    def __init__(self, instruments: Instruments) -> None:
        self._promoted = instruments.gauge("rollout_promoted_version", "The version that everybody is to use", "task")
        self._stage = instruments.gauge(
            "rollout_stage", "The stage of the candidate, from 1 on; 0 without one, or before the first", "task"
        )
        self._halted = instruments.gauge("rollout_halted", "1 while the rollout waits for the operator", "task")
        self._rollbacks = instruments.counter("rollout_rollbacks", "Versions rolled back", "task", "reason")

    def restore(self, state: Rollouts) -> None:
        """What the state says."""
        for name, task in state.tasks.items():
            stage = 0 if task.candidate is None else task.candidate.stage + 1
            self._show(name, promoted=task.promoted, stage=stage)
            self._halted.labels(name).set(task.is_halted)

    def follow(self, event: JournalEvent, time_ms: int) -> None:
        """What a step changes."""
        match event:
            case CanaryStarted() | CanaryGrown():
                self._stage.labels(event.task).set(event.stage + 1)
            case Promoted():
                self._show(event.task, promoted=event.version, stage=0)
            case RolledBack():
                self._show(event.task, promoted=event.to, stage=0)
            case RolloutHalted() | RolloutResumed():
                self._halted.labels(event.task).set(isinstance(event, RolloutHalted))

    def count(self, event: JournalEvent, time_ms: int) -> None:
        """Rollbacks by reason."""
        if isinstance(event, RolledBack):
            self._rollbacks.labels(event.task, event.reason).inc()

    def _show(self, task: str, *, promoted: int | None, stage: int) -> None:
        if promoted is not None:
            self._promoted.labels(task).set(promoted)
        self._stage.labels(task).set(stage)


def make_effects(log: EventLog, partition: int, *, key: RoleKey) -> RolloutEffects:
    """The effects of the role."""
    return RolloutEffects(log, partition, key=key)


def make_meter(instruments: Instruments) -> RolloutMeter:
    """The meter of the role."""
    return RolloutMeter(instruments)
