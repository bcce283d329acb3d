"""What the rollout knows: of each task with a table [rollout] its candidate, what is promoted, models and scores."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

from msgspec import UNSET, UnsetType

from actors.deciders.rollout.drifting import find_worst, is_about, name_drift
from actors.deciders.scores import Contested, Final, Rule, Scores
from schemas.events import (
    CanaryGrown,
    CanaryStarted,
    CandidateStaged,
    DriftEvent,
    DriftFound,
    JournalEvent,
    ModelPublished,
    Noticeable,
    Noticed,
    OrderRefused,
    Promoted,
    RolledBack,
    RolloutHalted,
    RolloutOrdered,
    RolloutResumed,
    TaskCreated,
    VersionEvaluated,
)
from schemas.identifiers import BodyRef
from schemas.policy import Rollout


@dataclass(slots=True)
class Candidate:
    """A version on its way. `begun_ms` is when it was staged, or came into its present stage; -1 is before the first.

    `is_kept`: the aggregator has said that its model stays, whatever is published meanwhile.
    """

    version: int
    begun_ms: int
    stage: int = -1
    # Only then may anybody get it: before, its model may be deleted at any moment.
    is_kept: bool = False
    is_approved: bool = False


@dataclass(slots=True)
class Task:
    """One task. `tried` is the newest version that has had its chance; `orders` the number of the newest order."""

    created: TaskCreated
    scores: Scores = field(default_factory=Scores)
    newest: int = -1
    models: dict[int, BodyRef] = field(default_factory=dict)
    # One at most: of two canaries nobody could tell which one a device's trouble comes from.
    candidate: Candidate | None = None
    promoted: int | None = None
    previous: int | None = None
    tried: int = 0
    orders: int = 0
    is_halted: bool = False
    # Where gates look at drift: what stands of the tasks that they name. Others keep the digest that they had before.
    drifts: dict[str, DriftFound] | UnsetType = UNSET

    @property
    def rules(self) -> Rollout:
        """The table [rollout] of its policy."""
        rollout = self.created.policy.rollout
        assert isinstance(rollout, Rollout)
        return rollout

    @property
    def rule(self) -> Rule:
        """When its scores are final."""
        return Rule.read(self.created.policy, *(gate.metric for gate in self.rules.scored_gates))

    @property
    def oldest(self) -> int:
        """The oldest version in the window of those whose models are there without anybody's asking."""
        return self.newest - self.created.policy.retention.models_kept + 1

    def is_held(self, version: int) -> bool:
        """Whether a version is kept beyond the window: as what is promoted, was before it, or is tried."""
        candidate = self.candidate
        is_tried = candidate is not None and candidate.version == version
        return version in (self.promoted, self.previous) or is_tried

    def settle(self, version: int, cohort: str = "") -> Final | Contested | None:
        """What is final of a version and cohort."""
        return self.scores.settle(version, cohort, rule=self.rule)

    def fork(self) -> Task:
        """A copy in which a decision tries what follows from what."""
        candidate = None if self.candidate is None else replace(self.candidate)
        drifts: dict[str, DriftFound] | UnsetType = UNSET if self.drifts is UNSET else {**self.drifts}
        return replace(self, models={**self.models}, scores=deepcopy(self.scores), candidate=candidate, drifts=drifts)

    def looks_at(self, drift: DriftEvent) -> bool:
        """Whether a gate looks at what was found, or has ended, whatever its bound is."""
        return any(is_about(gate, drift) for gate in self.rules.drift_gates)

    def find_drift(self) -> DriftFound | None:
        """What stands beyond a gate; None where nothing does."""
        return find_worst(self.rules.drift_gates, (self.drifts or {}).values())

    def find_hold_end_ms(self) -> int | None:
        """Until when the candidate stays in its stage at least; None without one."""
        if self.candidate is None:
            return None
        stages, stage = self.rules.stages, self.candidate.stage
        return self.candidate.begun_ms + (round(stages[stage].hold_s * 1000) if stage >= 0 else 0)

    def find_patience_end_ms(self) -> int | None:
        """Until when the candidate may lack a score; None without one."""
        end_ms = self.find_hold_end_ms()
        return None if end_ms is None else end_ms + round(self.rules.patience_s * 1000)


@dataclass(slots=True)
class Rollouts:
    """All tasks of one partition that are rolled out."""

    tasks: dict[str, Task] = field(default_factory=dict)

    def find_deadline_ms(self) -> int:
        """The last moment at which time alone could change something; 0 where it cannot."""
        waiting = (task.find_patience_end_ms() or 0 for task in self.tasks.values() if not task.is_halted)
        # The furthest and not the next: what is due in between is found by the ticks until then.
        return max(waiting, default=0)


def evolve(state: Rollouts, event: JournalEvent, time_ms: int) -> None:
    """Fold one event into the state."""
    match event:
        case Noticed(fact=fact):
            _notice(state, fact)
        case (
            CandidateStaged()
            | CanaryStarted()
            | CanaryGrown()
            | Promoted()
            | RolledBack()
            | RolloutHalted()
            | RolloutResumed()
        ):
            evolve_task(state.tasks[event.task], event, time_ms=time_ms)
        case OrderRefused():
            pass


def _notice(state: Rollouts, fact: Noticeable) -> None:
    if isinstance(fact, TaskCreated):
        state.tasks[fact.task] = begun = Task(fact)
        begun.drifts = {} if begun.rules.drift_gates else UNSET
    elif isinstance(fact, DriftEvent):
        for task in state.tasks.values():
            note_drift(task, fact)
    elif isinstance(fact, ModelPublished | CandidateStaged | VersionEvaluated | RolloutOrdered):
        note(state.tasks[fact.task], fact)


def note(task: Task, fact: Noticeable) -> None:
    """Take in a version, a score, an order, or that a candidate is kept."""
    match fact:
        case ModelPublished():
            task.newest, task.models[fact.version] = fact.version, fact.model
        case VersionEvaluated():
            task.scores.add(fact, task.rule)
            # Scores may come before their version; of those ahead as many are kept as of those behind.
            ahead = [version for version in task.scores.said if version > task.newest]
            if len(ahead) > task.created.policy.retention.models_kept:
                del task.scores.said[min(ahead)]
        case CandidateStaged() if task.candidate is not None:
            task.candidate.is_kept = True
        case RolloutOrdered():
            task.orders = fact.number
            if fact.action == "approve" and task.candidate is not None:
                task.candidate.is_approved = fact.version in (None, task.candidate.version)
    _forget(task)


def note_drift(task: Task, drift: DriftEvent) -> None:
    """Take in what a measure task has found, or that it has ended, where a gate looks at it."""
    if task.drifts is UNSET or not task.looks_at(drift):
        return
    if isinstance(drift, DriftFound):
        # The newest word counts: with each version of which it is so it is said again.
        task.drifts[name_drift(drift)] = drift
    else:
        task.drifts.pop(name_drift(drift), None)


def evolve_task(task: Task, event: JournalEvent, *, time_ms: int) -> None:
    """Fold what was decided on a task."""
    match event:
        case CandidateStaged():
            task.candidate, task.tried = Candidate(event.version, time_ms), event.version
        case CanaryStarted() | CanaryGrown():
            assert task.candidate is not None
            task.candidate.stage, task.candidate.begun_ms = event.stage, time_ms
        case Promoted():
            task.candidate, task.tried = None, max(task.tried, event.version)
            task.previous, task.promoted = task.promoted, event.version
        case RolledBack() if task.candidate is not None and task.candidate.version == event.version:
            task.candidate = None
        case RolledBack():
            task.promoted, task.previous = event.to, None
        case RolloutHalted():
            task.is_halted = True
            # It must not be halted for again: its evaluators may never agree, and newer versions come.
            if task.candidate is None and event.version is not None:
                task.tried = max(task.tried, event.version)
        case RolloutResumed():
            task.is_halted = False
    _forget(task)


def _forget(task: Task) -> None:
    """Drop what is out of the window and held by nobody."""
    known: tuple[dict[int, Any], ...] = (task.models, task.scores.said)
    for by_version in known:
        for version in [version for version in by_version if version < task.oldest and not task.is_held(version)]:
            del by_version[version]


def entries(state: Rollouts) -> int:
    """Models and scores remembered, over all tasks."""
    return sum(len(task.models) + len(task.scores.said) for task in state.tasks.values())
