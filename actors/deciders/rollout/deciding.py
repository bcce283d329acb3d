"""What each input of the rollout causes. One candidate at a time, and nothing moves but by final scores or an order."""

from __future__ import annotations

from dataclasses import dataclass, field

from msgspec import UNSET

from actors.deciders.decider import Decider
from actors.deciders.rollout.drifting import name_drift
from actors.deciders.rollout.gates import judge, list_evidence
from actors.deciders.rollout.orders import halt, obey, promote, roll_back
from actors.deciders.rollout.state import (
    Rollouts,
    Task,
    entries,
    evolve,
    evolve_task,
    note,
    note_drift,
)
from actors.deciders.scores import Contested
from schemas.events import (
    CanaryGrown,
    CanaryStarted,
    CandidateStaged,
    DriftEnded,
    DriftEvent,
    DriftFound,
    Evidence,
    JournalEvent,
    ModelPublished,
    Noticeable,
    Noticed,
    RolloutHalted,
    RolloutOrdered,
    RolloutResumed,
    TaskCreated,
    Tick,
    VersionEvaluated,
)
from schemas.policy import Rollout

RolloutInput = JournalEvent | VersionEvaluated | Tick


def decide(state: Rollouts, fact: RolloutInput, time_ms: int) -> list[JournalEvent]:
    """The events that this input causes."""
    match fact:
        case Noticed(fact=TaskCreated() as created):
            is_new = isinstance(created.policy.rollout, Rollout) and created.task not in state.tasks
            return [Noticed(fact=created)] if is_new else []
        case Tick():
            return [event for task in state.tasks.values() for event in _Course(task, time_ms).go_on()]
        # What devices have measured comes by way of the aggregator alone, which has compared it with the release: told
        # here by one evaluator it would be a second voice for whoever makes it up.
        case VersionEvaluated() if fact.source is not UNSET:
            return []
        case DriftFound() | DriftEnded():
            return _hear_drift(state, fact, time_ms=time_ms)
        case ModelPublished() | VersionEvaluated():
            return _hear(state.tasks.get(fact.task), fact, time_ms=time_ms)
        case Noticed(fact=VersionEvaluated() as relayed) if relayed.source is UNSET:
            return []
        case Noticed(fact=CandidateStaged() | RolloutOrdered() | VersionEvaluated() as noticed):
            return _hear(state.tasks.get(noticed.task), noticed, time_ms=time_ms)
    return []


def _hear(task: Task | None, fact: Noticeable, *, time_ms: int) -> list[JournalEvent]:
    if task is None or not _is_news(task, fact):
        return []
    course = _Course(task, time_ms)
    course.hear(fact)
    if isinstance(fact, RolloutOrdered):
        for event in obey(course.task, fact):
            course.add(event)
    # Scores that came while it was halted have moved nothing, and may speak against what is promoted.
    has_resumed = any(isinstance(event, RolloutResumed) for event in course.events)
    if has_resumed or (isinstance(fact, VersionEvaluated) and fact.version == task.promoted):
        course.look_back()
    return course.go_on()


def _hear_drift(state: Rollouts, drift: DriftEvent, *, time_ms: int) -> list[JournalEvent]:
    """Noted once, whatever the number of tasks that it holds back, or lets go on."""
    tasks = [task for task in state.tasks.values() if task.looks_at(drift)]
    # An end is no news where what it ends was found before anybody looked.
    if isinstance(drift, DriftEnded):
        tasks = [task for task in tasks if name_drift(drift) in (task.drifts or {})]
    events: list[JournalEvent] = [Noticed(fact=drift)] if tasks else []
    for task in tasks:
        course = _Course(task, time_ms)
        note_drift(course.task, drift)
        events += course.go_on()
    return events


def _is_news(task: Task, fact: Noticeable) -> bool:
    """Whether a fact changes anything: copies do not, nor what is said of versions that nobody can use any more."""
    match fact:
        case ModelPublished():
            return fact.version > task.newest
        case VersionEvaluated():
            is_known = fact.version >= task.oldest or task.is_held(fact.version)
            return is_known and task.scores.is_new(fact, task.rule)
        case CandidateStaged():
            candidate = task.candidate
            return candidate is not None and candidate.version == fact.version and not candidate.is_kept
        case RolloutOrdered():
            return fact.number > task.orders
    return False


@dataclass
class _Course:
    """What is decided on one task, event by event: each next one follows from those before, on a copy of the task."""

    task: Task
    time_ms: int
    events: list[JournalEvent] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.task = self.task.fork()

    def hear(self, fact: Noticeable) -> None:
        """Take in what was learned."""
        self.events.append(Noticed(fact=fact))
        note(self.task, fact)

    def add(self, event: JournalEvent) -> None:
        """Take in what was decided."""
        self.events.append(event)
        evolve_task(self.task, event, time_ms=self.time_ms)

    def go_on(self) -> list[JournalEvent]:
        """Everything so far, and all that follows from it by now."""
        while (event := find_next(self.task, time_ms=self.time_ms)) is not None:
            self.add(event)
        return self.events

    def look_back(self) -> None:
        """Roll what is promoted back where a score that came later fails its gates."""
        task = self.task
        if task.promoted is None or task.is_halted:
            return
        verdict = judge(task, task.promoted, against=task.previous)
        if verdict.finding == "failed" and verdict.reason is not None:
            self.add(roll_back(task, task.promoted, reason=verdict.reason, evidence=verdict.evidence))
        elif verdict.finding == "contested":
            self.add(_disagree(task, task.promoted, evidence=verdict.evidence))


def find_next(task: Task, *, time_ms: int) -> JournalEvent | None:
    """The one event that is due on a task, by what is known of it; None where nothing is."""
    if task.is_halted:
        return None
    return _stage(task) if task.candidate is None else _move(task, time_ms=time_ms)


def _stage(task: Task) -> JournalEvent | None:
    """The newest version with a final score is the next candidate, if it is newer than all that had their chance."""
    # Nothing is tried while data have moved: each version would have its only chance, and lose it for that.
    if task.find_drift() is not None:
        return None
    for version in sorted(task.scores.said, reverse=True):
        # From the newest on: what is older than one that had its chance would be a step back.
        if version <= max(task.tried, task.promoted or 0):
            return None
        if version not in task.models or version % task.rules.every:
            continue
        found = task.settle(version)
        if isinstance(found, Contested):
            return _disagree(task, version, evidence=list_evidence(task, version))
        if found is not None:
            return CandidateStaged(task=task.created.task, version=version, previous=task.promoted)
    return None


def _move(task: Task, *, time_ms: int) -> JournalEvent | None:
    candidate, hold_end_ms, patience_end_ms = task.candidate, task.find_hold_end_ms(), task.find_patience_end_ms()
    assert candidate is not None
    assert hold_end_ms is not None
    assert patience_end_ms is not None
    # The aggregator would have said before that version that it keeps this one's model.
    if not candidate.is_kept and candidate.version < task.oldest:
        return roll_back(task, candidate.version, reason="gone")
    verdict = judge(task, candidate.version, against=task.promoted)
    match verdict.finding:
        case "failed":
            assert verdict.reason is not None
            return roll_back(task, candidate.version, reason=verdict.reason, evidence=verdict.evidence)
        case "contested":
            return _disagree(task, candidate.version, evidence=verdict.evidence)
    if (drift := task.find_drift()) is not None:
        # Whom nobody uses yet waits; from whom devices have it, it is taken back.
        return roll_back(task, candidate.version, reason="drift", drift=drift) if candidate.stage >= 0 else None
    match verdict.finding:
        case "missing" if time_ms >= patience_end_ms:
            return roll_back(task, candidate.version, reason="unscored", evidence=verdict.evidence)
        case "passed" if time_ms >= hold_end_ms and candidate.is_kept:
            return _grow(task, evidence=verdict.evidence)
    return None


def _grow(task: Task, *, evidence: tuple[Evidence, ...]) -> JournalEvent | None:
    """Into the next stage; behind the last one everybody gets it, where the operator need not, or did, approve."""
    candidate, stages = task.candidate, task.rules.stages
    assert candidate is not None
    number = candidate.stage + 1
    if number == len(stages):
        is_free = candidate.is_approved or not task.rules.needs_approval
        return promote(task, candidate.version, evidence=evidence) if is_free else None
    kind = CanaryStarted if number == 0 else CanaryGrown
    return kind(
        task=task.created.task,
        version=candidate.version,
        stage=number,
        cohorts=stages[number].cohorts,
        share=stages[number].share,
        evidence=evidence,
        model=task.models[candidate.version],
    )


def _disagree(task: Task, version: int, *, evidence: tuple[Evidence, ...]) -> RolloutHalted:
    return halt(task, version, reason="disagreement", evidence=evidence)


ROLLOUT: Decider[Rollouts] = Decider(initial=Rollouts, decide=decide, evolve=evolve, entries=entries)


def make_decider(key_id: bytes) -> Decider[Rollouts]:
    """The rollout as a decider; it asks for no noise, so that `key_id` plays no part."""
    return ROLLOUT
