"""What the aggregator knows: the tasks of one partition, folded from its journal. `aggregator` decides on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import reduce

from msgspec import UNSET, UnsetType

from actors.deciders.drifting.standing import Drifts, begin_drifts, is_reference, note_drift
from actors.deciders.masking.keys import Epochs, fold_key
from actors.deciders.outcomes import Outcomes
from actors.deciders.populations.budgets import (
    NOBODY,
    Budget,
    Budgets,
    find_budget,
    find_busier,
    is_past,
    list_spent,
    set_budget,
)
from actors.deciders.quarantining.watch import Watch, note_watched
from actors.deciders.rollout.held import Claim, Held, hold, is_held
from actors.deciders.scores import LOSS, Rule, Standing, meets_target
from schemas.events import (
    BudgetExhausted,
    CosignatureHeard,
    DeviceQuarantined,
    DeviceRevoked,
    DriftEvent,
    EpochDestroyed,
    EpochOpened,
    HaltReason,
    JournalEvent,
    MaskKeyOffered,
    MasksSummed,
    MembersCompared,
    ModelPublished,
    Noticeable,
    Noticed,
    PopulationBudgetSet,
    QuarantineLifted,
    RoundAbandoned,
    RoundCharged,
    RoundOpened,
    RoundProposed,
    TaskClosed,
    TaskCreated,
    TaskHalted,
    TaskPaused,
    TaskResumed,
    TaskSucceeded,
    UpdateAdmitted,
    UpdateRefused,
    VersionEvaluated,
    name_unit,
)
from schemas.identifiers import BodyRef
from schemas.policy import name_judged_metric
from schemas.topics import population_of

# An outcome is remembered this long past the deadline, so that a device that was away still learns its own.
REMEMBERED_MS = 600_000
MOMENTS_KEPT = 2


@dataclass(slots=True)
class Round:
    """A buffer, by device or subject; `proposed` once it is full, `charged` once its release is paid for."""

    id: int
    opened_ms: int = 0
    members: dict[str, UpdateAdmitted] = field(default_factory=dict)
    proposed: RoundProposed | None = None
    charged: bool = False
    masks: dict[int, MasksSummed] | UnsetType = UNSET  # of a masked task: what helpers have answered, by their number


@dataclass(slots=True)
class Task:
    """One task as the aggregator sees it. `pending` are proposed rounds, oldest first; vectors are not state."""

    created: TaskCreated
    status: str = "open"
    version: int = -1
    model: BodyRef | None = None
    moments: BodyRef | None = None
    buffer: Round | None = None
    pending: list[Round] = field(default_factory=list)
    ending: HaltReason | None = None
    outcomes: Outcomes = field(default_factory=Outcomes)
    participations: dict[str, int] = field(default_factory=dict)
    participations_max: int = 0
    exhausted: int = 0  # devices that have reached the cap
    published: dict[int, ModelPublished] = field(default_factory=dict)
    progress_ms: int = 0
    next_round: int = 0
    successor: str | None = None  # the task that carries on from this one
    changes: int = 0  # the number of the newest pause or resume
    first_loss: float | None = None  # of version 0, with which later scores are compared
    epochs: Epochs | UnsetType = UNSET  # of a sealed task; others keep the digest that they had before there were any
    offered: dict[int, bytes] | UnsetType = UNSET  # of a masked one: what helpers have said of the next epoch's keys
    # Under a population's budget: devices that other tasks have exhausted, and that never took part in this one.
    strangers: int | UnsetType = UNSET
    standing: Standing | UnsetType = UNSET  # of a task that is judged by final scores
    watch: Watch | UnsetType = UNSET  # of a task with a table [quarantine]
    held: Held | UnsetType = UNSET  # of a task with a rollout: models that it needs beyond the window
    cosigned: dict[int, int] | UnsetType = UNSET  # of a masked task: the newest version that each helper has co-signed
    drifts: Drifts | UnsetType = UNSET  # of a task with a table [drift]

    def find_awaited(self) -> Round | None:
        """The round whose release comes next, if nothing else has to happen first."""
        if not self.pending:
            return None
        # Versions come in the order of their proposals, so a later round waits even when it is charged first.
        first, policy = self.pending[0], self.created.policy
        if first.masks is not UNSET and len(first.masks) < len(policy.masked_by.helpers):
            return None
        return first if first.charged or policy.privacy is None else None

    def may_end_by_time(self) -> bool:
        """Whether the open round waits for nothing but time."""
        rules, buffer = self.created.policy.aggregation, self.buffer
        return bool(rules.round_s) and buffer is not None and len(buffer.members) >= rules.updates_min

    def rounds(self) -> list[Round]:
        """Every round that is not published yet: the pending ones, then the open one."""
        return self.pending if self.buffer is None else [*self.pending, self.buffer]

    def list_outdated(self) -> list[BodyRef]:
        """Bodies that the newest version has made superfluous: its forerunner's moments, and a model out of the window.

        Two moments stay, so that a reader of the version before is not cut off; milestones stay for ever.
        """
        retention = self.created.policy.retention
        # Each version makes exactly one model leave the window, so no list of old models is kept.
        leaving = self.published.get(self.version - retention.models_kept)
        without = self.published.get(self.version - MOMENTS_KEPT)
        is_milestone = leaving and retention.milestone_every and leaving.version % retention.milestone_every == 0
        is_needed = leaving and (is_held(self, leaving.version) or is_reference(self, leaving.version))
        gone = [leaving.model] if leaving and not is_milestone and not is_needed else []
        return [*gone, *([without.moments] if without and without.moments else [])]

    def count_participations(self, unit: str) -> int:
        """How often the device, or its subject where devices are enrolled, has taken part."""
        return self.participations.get(unit, 0)

    def count_known(self) -> int:
        """How many devices there are at least: those that are here, and those that the operator expects."""
        strangers = 0 if self.strangers is UNSET else self.strangers
        return max(self.created.policy.selection.devices_expected, len(self.participations) + strangers)


@dataclass(slots=True)
class Rounds:
    """All tasks of one partition, and the budgets of its populations."""

    tasks: dict[str, Task] = field(default_factory=dict)
    budgets: Budgets = UNSET

    def list_units(self, population: str) -> set[str]:
        """All devices, or subjects, that have taken part in a task of the population."""
        mine = (task for name, task in self.tasks.items() if population_of(name) == population)
        return {unit for task in mine for unit in task.participations}


def evolve(state: Rounds, event: JournalEvent, time_ms: int) -> None:
    """Fold one event into the state."""
    match event:
        case UpdateAdmitted() | UpdateRefused():
            _settle(state, event, time_ms=time_ms)
        case Noticed(fact=fact):
            _hear(state, fact, time_ms=time_ms)
        case RoundOpened():
            task = state.tasks[event.task]
            masks: dict[int, MasksSummed] | UnsetType = {} if task.created.policy.is_masked else UNSET
            task.buffer, task.next_round = Round(event.round, time_ms, masks=masks), event.round + 1
            # An opened round counts as progress: devices need time to fill it.
            task.progress_ms = time_ms
        case RoundProposed() | RoundAbandoned():
            _close_buffer(state.tasks[event.task], event)
        case ModelPublished():
            _publish(state.tasks[event.task], event)
        case _ if isinstance(event, DriftEvent):
            note_drift(state.tasks[event.task], event)
        case TaskHalted():
            _halt(state.tasks[event.task], time_ms=time_ms)
        case EpochOpened() | EpochDestroyed() | MaskKeyOffered() | CosignatureHeard():
            fold_key(state.tasks[event.task], event, time_ms=time_ms)
        case MembersCompared() | DeviceQuarantined():
            note_watched(state.tasks[event.task], event)


def _hear(state: Rounds, fact: Noticeable, *, time_ms: int) -> None:
    match fact:
        case TaskCreated():
            state.tasks[fact.task] = Task(
                fact,
                epochs=Epochs() if fact.policy.has_epochs else UNSET,
                offered={} if fact.policy.is_masked else UNSET,
                standing=Standing() if fact.policy.evaluation.has_finals else UNSET,
                watch=UNSET if fact.policy.quarantine is UNSET else Watch(),
                held=UNSET if fact.policy.rollout is UNSET else Held(),
                drifts=begin_drifts(fact),
            )
            if (budget := find_budget(state.budgets, fact.task)) is not None:
                budget.tasks.append(fact.task)
                _recount(state, budget)
        case PopulationBudgetSet():
            state.budgets = set_budget(state.budgets, fact, tasks=state.tasks)
            _recount(state, state.budgets[fact.population])
        case DeviceRevoked():
            pass
        case _ if isinstance(fact, Claim):
            hold(state.tasks[fact.task], fact)
        case _:
            _notice(state.tasks[fact.task], fact, time_ms=time_ms)


def _publish(task: Task, event: ModelPublished) -> None:
    task.version, task.model, task.moments = event.version, event.model, event.moments
    task.published[event.version] = event
    # One more than the window, because `outdated` looks up the one that is leaving.
    gone = event.version - task.created.policy.retention.models_kept - 1
    task.published.pop(gone, None)
    if task.standing is not UNSET:
        task.standing.forget(gone, name_judged_metric(task.created.policy))
    task.pending = [pending for pending in task.pending if pending.id != event.round]
    note_drift(task, event)


def _halt(task: Task, *, time_ms: int) -> None:
    task.status, task.buffer = "halted", None
    if task.epochs is not UNSET:
        task.epochs.retire(time_ms)


def _notice(task: Task, fact: object, *, time_ms: int) -> None:
    if isinstance(fact, TaskPaused | TaskResumed):
        task.changes = fact.number
    match fact:
        case TaskPaused() if task.status == "open":
            task.status = "paused"
        case TaskResumed() if task.status == "paused":
            task.status, task.progress_ms = "open", time_ms
        case TaskSucceeded():
            task.successor = fact.successor
        case TaskClosed():
            task.ending, task.buffer = "closed", _keep_filled_buffer(task)
        case BudgetExhausted():
            task.ending, task.buffer = "budget", _keep_filled_buffer(task)
        case VersionEvaluated():
            _notice_score(task, fact)
        case RoundCharged() | MasksSummed():
            _notice_for_release(task, fact)
        case QuarantineLifted() if task.watch is not UNSET:
            task.watch.lift(fact)


def _notice_for_release(task: Task, fact: RoundCharged | MasksSummed) -> None:
    """Something that a pending round waits for has come."""
    for pending in task.pending:
        if pending.id != fact.round:
            continue
        if isinstance(fact, RoundCharged):
            pending.charged = True
        elif pending.masks is not UNSET:
            pending.masks[fact.helper] = fact


def _notice_score(task: Task, evaluated: VersionEvaluated) -> None:
    policy = task.created.policy
    if task.standing is not UNSET:
        task.standing.add(evaluated, policy)
        final = task.standing.scores.find_final(evaluated.version, rule=Rule.read(policy))
        if evaluated.version == 0 and final is not None:
            task.first_loss = final.metrics.get(LOSS)
        reason = task.standing.judge(evaluated.version, policy, first_loss=task.first_loss)
        # What comes behind its end is kept for people and for a rollout, and ends nothing a second time.
        if reason is not None and task.ending is None and task.status != "halted":
            task.ending, task.buffer = reason, _keep_filled_buffer(task)
        return
    is_on_target = meets_target(policy, evaluated.metrics)
    if evaluated.version == 0 and not is_on_target:
        task.first_loss = evaluated.metrics.get(LOSS)
        return
    task.ending, task.buffer = "target" if is_on_target else "diverged", _keep_filled_buffer(task)


def _keep_filled_buffer(task: Task) -> Round | None:
    """A buffer with members stays until its RoundAbandoned, the next event, names it."""
    return task.buffer if task.buffer is not None and task.buffer.members else None


def _recount(state: Rounds, budget: Budget) -> None:
    """Who is exhausted in each task of a population, and who has spent most, of all that are known."""
    units = state.list_units(budget.allowed.population)
    spent = {unit: list_spent(budget, state.tasks, unit=unit) for unit in units}
    # What was inherited counts before anybody has come.
    budget.busiest = reduce(find_busier, spent.values(), list_spent(budget, state.tasks, unit=NOBODY))
    for task in (state.tasks[name] for name in budget.tasks):
        gone = [
            unit for unit in units if is_past(budget, task, taken=task.count_participations(unit), spent=spent[unit])
        ]
        task.exhausted, task.strangers = len(gone), sum(unit not in task.participations for unit in gone)


def _take_part(state: Rounds, task: Task, *, unit: str) -> None:
    """Count a participation, and in which tasks it was the last that the device could have."""
    budget = find_budget(state.budgets, task.created.task)
    taken = task.count_participations(unit) + 1
    if budget is None:
        # Counted once, at the moment the cap is reached, so that a proposal need not walk all devices.
        task.exhausted += taken == task.created.participations_cap
        task.participations[unit] = taken
        return
    spent = list_spent(budget, state.tasks, unit=unit)
    sharing = [state.tasks[name] for name in budget.tasks if state.tasks[name].status != "halted"]
    left = [each for each in sharing if not is_past(budget, each, taken=each.count_participations(unit), spent=spent)]
    task.participations[unit] = taken
    spent = list_spent(budget, state.tasks, unit=unit)
    budget.busiest = find_busier(budget.busiest, spent)
    for each in left:
        if is_past(budget, each, taken=each.count_participations(unit), spent=spent):
            assert each.strangers is not UNSET
            each.exhausted += 1
            each.strangers += unit not in each.participations


def _settle(state: Rounds, event: UpdateAdmitted | UpdateRefused, *, time_ms: int) -> None:
    task = state.tasks.get(event.task)
    if task is None:
        return
    # When this lease was granted: no later update can have been appended before, so that another copy of what was long
    # over then is expired. Log time may be far ahead of that, because other topics are read ahead of `updates`.
    task.outcomes.forget(event.deadline_ms - task.created.policy.lease_ms - REMEMBERED_MS)
    if isinstance(event, UpdateRefused):
        task.outcomes.add(event.update, event.reason, deadline_ms=event.deadline_ms)
        return
    assert task.buffer is not None
    task.outcomes.add(event.update, "admitted", deadline_ms=event.deadline_ms)
    unit = name_unit(event)
    task.buffer.members[unit] = event
    task.progress_ms = time_ms
    _take_part(state, task, unit=unit)
    task.participations_max = max(task.participations_max, task.participations[unit])


def _close_buffer(task: Task, event: RoundProposed | RoundAbandoned) -> None:
    if isinstance(event, RoundAbandoned):
        task.buffer = None if task.buffer is not None and task.buffer.id == event.round else task.buffer
        task.pending = [pending for pending in task.pending if pending.id != event.round]
        return
    assert task.buffer is not None
    task.buffer.proposed = event
    task.pending.append(task.buffer)
    task.buffer = None


def entries(state: Rounds) -> int:
    """Devices and outcomes remembered, over all tasks."""
    return sum(len(task.participations) + len(task.outcomes) for task in state.tasks.values())
