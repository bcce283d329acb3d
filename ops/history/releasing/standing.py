"""Where the rollout of a task stands: folded anew for each question, by the rollout's own rules."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from msgspec import UNSET, to_builtins

from actors.deciders.arithmetic.drifting import MILLION
from actors.deciders.rollout import Rollouts, make_decider
from actors.deciders.rollout.state import Task
from ops.history.telling import tell_event
from schemas.certificates import Trust
from schemas.events import (
    CanaryGrown,
    CanaryStarted,
    CandidateStaged,
    DriftFound,
    Evidence,
    JournalEvent,
    Noticed,
    OrderRefused,
    Promoted,
    RolledBack,
    RolloutHalted,
    RolloutOrdered,
    RolloutResumed,
)
from schemas.identifiers import TaskId
from schemas.topics import ROLLOUTS, partition_of
from streams.journals import JournalReader
from streams.log import EventLog, TopicPartition, scan

STEPS = (
    CandidateStaged,
    CanaryStarted,
    CanaryGrown,
    Promoted,
    RolledBack,
    RolloutHalted,
    RolloutResumed,
    OrderRefused,
)
# What people look back on; the rest stands in the log, and in SQL.
STEPS_SHOWN = 50


@dataclass(frozen=True, slots=True)
class Step:
    """One event of a rollout, the log time of its decision, and the order that it follows, if it does."""

    event: Any
    time_ms: int
    order: RolloutOrdered | None = None

    def describe(self) -> dict[str, Any]:
        """As JSON shows it; `text` is a line for people."""
        said = {name: getattr(self.event, name) for name in self.event.__struct_fields__ if name not in _HIDDEN}
        if (drift := said.pop("drift", UNSET)) is not UNSET:
            said["drift"] = to_builtins(drift)
        evidence = [_describe_evidence(each) for each in getattr(self.event, "evidence", ())]
        return {
            "step": type(self.event).__name__,
            "time_ms": self.time_ms,
            **said,
            "text": self.text,
            "evidence": evidence,
        }

    @property
    def text(self) -> str:
        """What happened and why, on one line."""
        told = tell_event(self.event)
        why = "; ".join(_tell_evidence(each) for each in getattr(self.event, "evidence", ())[:2])
        # The drift itself stands in the log word for word; here whose it is, and how much.
        why = _tell_drift(drift) if (drift := getattr(self.event, "drift", UNSET)) else why
        # Of steps forward the scores are in the table; whoever reads of a rollback wants them at once.
        return f"{told} ({why})" if why and isinstance(self.event, RolledBack | RolloutHalted) else told


# A reader of JSON finds the task beside, the evidence word by word, and the model in `published`.
_HIDDEN = ("task", "evidence", "model")


@dataclass(slots=True)
class Standing:
    """The state of a rollout, and its newest steps, oldest first."""

    task: TaskId
    state: Task | None = None
    steps: list[Step] = field(default_factory=list)

    @property
    def last_rollback(self) -> Step | None:
        """The newest one."""
        return next((step for step in reversed(self.steps) if isinstance(step.event, RolledBack)), None)

    def describe(self) -> dict[str, Any]:
        """As JSON shows it. `is_known`: whether the rollout's actor has heard of the task."""
        found = self.state
        candidate = found.candidate if found else None
        rules = found.rules if found else None
        stage = None if candidate is None or rules is None or candidate.stage < 0 else rules.stages[candidate.stage]
        # Among the newest steps: one that lies further back is no news to anybody.
        rollback = self.last_rollback
        return {
            "task": self.task,
            "is_known": found is not None,
            "newest": found.newest if found and found.newest >= 0 else None,
            "promoted": found.promoted if found else None,
            "previous": found.previous if found else None,
            "candidate": candidate.version if candidate else None,
            "stage": candidate.stage if stage and candidate else None,
            "stages": len(rules.stages) if rules else None,
            "share": stage.share if stage else None,
            "cohorts": [*stage.cohorts] if stage else None,
            "is_halted": found.is_halted if found else False,
            "needs_approval": rules.needs_approval if rules else None,
            "last_rollback": rollback.describe() if rollback else None,
            "steps": [step.describe() for step in self.steps],
        }


def read_standing(log: EventLog, task: TaskId, *, trust: Trust | None) -> Standing:
    """Where the rollout of a task stands at this moment."""
    found, state = Standing(task), Rollouts()
    decider = make_decider(b"")
    # A whole partition, because tasks share a journal; it holds a few events a version, so that no file keeps it.
    for events, time_ms in _read_decisions(log, partition_of(task, log.partitions), trust=trust):
        orders = [each.fact for each in events if isinstance(each, Noticed) and isinstance(each.fact, RolloutOrdered)]
        for event in events:
            decider.evolve(state, event, time_ms)
            if isinstance(event, STEPS) and event.task == task:
                # A decision follows from one input, so that its steps follow from the order in it.
                order = next((each for each in orders if each.task == task), None)
                found.steps = [*found.steps, Step(event, time_ms, order)][-STEPS_SHOWN:]
    found.state = state.tasks.get(task)
    return found


def _read_decisions(
    log: EventLog, partition: int, *, trust: Trust | None
) -> Iterator[tuple[tuple[JournalEvent, ...], int]]:
    at = TopicPartition(ROLLOUTS.name, partition)
    # Along its chain: what a zombie or a stranger wrote there is no step of any rollout.
    journal = JournalReader(at, trust=trust)
    for record in scan(log, at):
        batch = journal.follow(record)
        yield from ((decision.events, decision.time_ms) for decision in (batch.decisions if batch is not None else ()))


def _describe_evidence(each: Evidence) -> dict[str, Any]:
    return {name: getattr(each, name) for name in each.__struct_fields__}


def _tell_drift(drift: DriftFound) -> str:
    where = f" in {drift.cohort}" if drift.cohort else ""
    return (
        f"{drift.kind} by {drift.measure} {drift.value / MILLION:.3g}{where}, version {drift.version} of {drift.task}"
    )


def _tell_evidence(each: Evidence) -> str:
    where = f" in {each.cohort}" if each.cohort else ""
    return f"{each.metric} {each.value:.4g} of version {each.version}{where}"
