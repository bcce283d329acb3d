"""The aggregator: admit, buffer, propose, publish. One round is one buffer; a full one becomes the next version."""

from __future__ import annotations

from dataclasses import dataclass

from msgspec import UNSET, UnsetType

from actors.deciders.admission import COUNTED, UpdateChecked, admit, is_full
from actors.deciders.aggregator_state import Round, Rounds, Task, entries, evolve
from actors.deciders.decider import Decider
from actors.deciders.drifting.judging import Distance, judge_drift
from actors.deciders.epochs import EpochKeyGone, EpochMade, list_over, wants_epoch
from actors.deciders.lifetime import describe_first, hear_score, is_held_for, is_starved, may_begin, may_succeed
from actors.deciders.masking.hearing import HelperHeard, MasksUnusable, find_answered, hear_cosignature, offer_key
from actors.deciders.populations.budgets import find_budget, find_busiest, is_exhausted
from actors.deciders.populations.settings import may_set
from actors.deciders.quarantining.judging import Compared, is_new, judge_round
from actors.deciders.rollout.held import Claim
from schemas.events import (
    BudgetExhausted,
    EpochDestroyed,
    EpochOpened,
    HaltReason,
    JournalEvent,
    MaskKeyDestroyed,
    MaskKeyOpened,
    MasksRefused,
    MasksSummed,
    Mechanism,
    ModelCosigned,
    ModelPublished,
    Noticed,
    PopulationBudgetSet,
    QuarantineLifted,
    RoundAbandoned,
    RoundCharged,
    RoundOpened,
    RoundProposed,
    RoundWithheld,
    SumStored,
    TaskClosed,
    TaskCreated,
    TaskEvent,
    TaskHalted,
    TaskPaused,
    TaskResumed,
    TaskSucceeded,
    Tick,
    UpdateAdmitted,
    UpdateRefused,
    UpdatesDeclined,
    VersionEvaluated,
    name_unit,
)
from schemas.identifiers import BodyRef
from schemas.policy.metrics import MetricSums, list_open_reports, sum_metrics
from schemas.receipts.members import compute_members_root


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseStored:
    """The host has computed and stored what a round releases."""

    task: str
    round: int
    sum_sha256: bytes
    model: BodyRef
    moments: BodyRef | None
    is_sound: bool = True  # whether a device could train from it
    metrics: MetricSums | UnsetType | None = UNSET  # of a sealed round, whose admissions have none
    compared: Compared | UnsetType = UNSET  # where the policy has a table [quarantine]
    distances: tuple[Distance, ...] | UnsetType = UNSET  # where it has a table [drift]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyMissing:
    """The host does not hold the key that the round's mechanism names, so it cannot draw that noise."""

    task: str
    round: int


EpochInput = EpochMade | EpochKeyGone
# What the host finds missing for a round's release, and why it is given up then.
_WHY_GIVEN_UP: dict[type, str] = {KeyMissing: "key_missing", MasksUnusable: "masks_unusable"}
MaskInput = HelperHeard | MasksUnusable
AggregatorInput = (
    UpdateChecked
    | ReleaseStored
    | KeyMissing
    | EpochInput
    | MaskInput
    | TaskEvent
    | Tick
    | VersionEvaluated
    | JournalEvent
)


def mechanism_of(created: TaskCreated, key_id: bytes) -> Mechanism | None:
    """The noise that each release of a task gets; None without privacy."""
    policy = created.policy
    if policy.privacy is None:
        return None
    return Mechanism(
        noise_multiplier=policy.privacy.noise_multiplier,
        clip_steps=policy.clipping.steps,
        weight_max=policy.weight_max,
        sigma=policy.sigma,
        sampler="ladder-2",
        key_id=key_id,
    )


@dataclass(frozen=True, slots=True)
class Aggregator:
    """The pure part, for one operator's key id (which a mechanism names, law 7)."""

    key_id: bytes

    def decide(self, state: Rounds, fact: AggregatorInput, time_ms: int) -> list[JournalEvent]:
        """The events that this input causes."""
        match fact:
            case UpdateChecked():
                return self._decide_update(state, fact, time_ms=time_ms)
            case TaskCreated() if fact.task not in state.tasks and may_begin(state, fact):
                return [Noticed(fact=fact), describe_first(fact), RoundOpened(task=fact.task, round=0)]
            case TaskSucceeded() if may_succeed(state, fact):
                return [Noticed(fact=fact)]
            case PopulationBudgetSet():
                units = state.list_units(fact.population)
                return [Noticed(fact=fact)] if may_set(state, fact, units=units) else []
            case Tick():
                return [e for task in state.tasks.values() for e in self._pass_time(state, task, time_ms=time_ms)]
            case TaskPaused() | TaskResumed() | TaskClosed() | QuarantineLifted() | RoundCharged():
                return _notice(state.tasks.get(fact.task), fact)
            case RoundWithheld() | BudgetExhausted() | ReleaseStored() | KeyMissing() | MasksUnusable():
                return _notice(state.tasks.get(fact.task), fact)
            case _ if isinstance(fact, HelperHeard | VersionEvaluated | Claim):
                return _hear(state, fact)
            case EpochMade() | EpochKeyGone():
                return _turn_epoch(state.tasks.get(fact.task), fact, time_ms=time_ms)
        return []

    def _decide_update(self, state: Rounds, update: UpdateChecked, *, time_ms: int) -> list[JournalEvent]:
        lease, reason, task = update.lease, update.refusal, state.tasks.get(update.lease.task)
        # Whoever holds one lease can send it for ever: these leave no trace of their own, in journal or state.
        if reason in COUNTED:
            return [UpdatesDeclined(task=lease.task if task else None, counts={reason: 1})]  # type: ignore[dict-item]
        # With privacy, who is in a round must not depend on what a body holds: a bad one counts as zero (law 9).
        if reason is None and task is not None and task.created.policy.privacy is None:
            reason = update.fault
        if reason is not None or task is None or task.buffer is None:
            return [
                UpdateRefused(
                    task=lease.task,
                    update=lease.lease,
                    device=lease.device,
                    reason=reason or "finished",  # type: ignore[arg-type]
                    deadline_ms=lease.deadline_ms,
                    subject=lease.subject,
                )
            ]
        admitted = admit(task, update, round_id=task.buffer.id)
        members = len(task.buffer.members) + 1
        if not is_full(task, members=members, opened_ms=task.buffer.opened_ms, time_ms=time_ms):
            return [admitted]
        return [admitted, *self._propose(state, task, newest=admitted)]

    def _pass_time(self, state: Rounds, task: Task, *, time_ms: int) -> list[JournalEvent]:
        """What the passing of time alone causes: the end of a round, or that of an idle task."""
        buffer = task.buffer
        if buffer and is_full(task, members=len(buffer.members), opened_ms=buffer.opened_ms, time_ms=time_ms):
            return self._propose(state, task)
        if is_starved(state, task):
            return [*_drop_buffer(task, "halted"), _halt(task, "too_few_devices")]
        return _halt_idle(task, time_ms)

    def _propose(self, state: Rounds, task: Task, *, newest: UpdateAdmitted | None = None) -> list[JournalEvent]:
        """Propose the buffer, with an admission that the state has not folded yet, and open the next."""
        buffer, policy = task.buffer, task.created.policy
        budget = find_budget(state.budgets, task.created.task)
        assert buffer is not None
        members = [*buffer.members.values(), *([newest] if newest else [])]
        unit = None if newest is None else name_unit(newest)
        taken = 0 if unit is None else task.count_participations(unit) + 1
        busiest = max(task.participations_max, taken)
        proposed = RoundProposed(
            task=task.created.task,
            round=buffer.id,
            members_root=compute_members_root(members),
            members=len(members),
            weight_sum=sum(member.weight for member in members),
            metrics=None if policy.is_sealed else sum_metrics(members, count=len(list_open_reports(policy))),
            mechanism=mechanism_of(task.created, self.key_id),
            participations_max=busiest,
            busiest=UNSET if budget is None else find_busiest(state, budget, created=task.created, unit=unit),
        )
        exhausted = task.exhausted + (unit is not None and is_exhausted(state, task, unit=unit, more=1))
        return [proposed, *_open_round(task, versions=task.version + len(task.pending) + 1, exhausted=exhausted)]


def _open_round(task: Task, *, versions: int, exhausted: int) -> list[JournalEvent]:
    """The next round, unless `versions` (published and pending) are enough or too few devices are left for it."""
    if _next_halt(task, versions=versions, exhausted=exhausted) is not None:
        return []
    return [RoundOpened(task=task.created.task, round=task.next_round)]


def _next_halt(task: Task, *, versions: int, exhausted: int) -> HaltReason | None:
    policy = task.created.policy
    if task.ending is not None:
        return task.ending
    if versions >= policy.stop.versions_max:
        return "versions_max"
    # The parents have spent all: no device could be admitted even once.
    if task.created.participations_cap == 0:
        return "too_few_devices"
    # Devices that have not come yet may come, up to the number that the operator expects.
    return "too_few_devices" if task.count_known() - exhausted < policy.aggregation.members_min else None


def _halt_idle(task: Task, time_ms: int) -> list[JournalEvent]:
    idle_ms = task.created.policy.stop.idle_s * 1000
    if task.status != "open" or task.pending or task.buffer is None or time_ms - task.progress_ms <= idle_ms:
        return []
    return [*_drop_buffer(task, "halted"), _halt(task, "idle")]


def _drop_buffer(task: Task, reason: str) -> list[JournalEvent]:
    """The open buffer is given up; an empty one needs no word."""
    if task.buffer is None or not task.buffer.members:
        return []
    return [_abandon(task, task.buffer, reason=reason)]


def _abandon(task: Task, buffer: Round, *, reason: str) -> RoundAbandoned:
    # A proposed round keeps the root that the ledger has seen.
    root = buffer.proposed.members_root if buffer.proposed else compute_members_root(buffer.members.values())
    return RoundAbandoned(
        task=task.created.task,
        round=buffer.id,
        members_root=root,
        members=len(buffer.members),
        reason=reason,  # type: ignore[arg-type]
    )


def _halt(task: Task, reason: HaltReason) -> TaskHalted:
    return TaskHalted(task=task.created.task, reason=reason, version=task.version if task.version >= 0 else None)


def _notice(task: Task | None, fact: object) -> list[JournalEvent]:
    """What the operator, the budget or the host tells about a task that is still running."""
    # A halted task with rounds pending still waits for their charges and releases.
    if task is None or (task.status == "halted" and not task.pending):
        return []
    match fact:
        case TaskPaused() | TaskResumed() | QuarantineLifted() if is_new(task, fact):
            return [Noticed(fact=fact)]
        case RoundCharged():
            return [Noticed(fact=fact)]
        case TaskClosed():
            return [Noticed(fact=fact), *_end_task(task, "closed")]
        case BudgetExhausted():
            return [Noticed(fact=fact), *_end_task(task, "budget")]
        case RoundWithheld():
            return [Noticed(fact=fact), *_give_up(task, fact.round, reason="withheld")]
        case KeyMissing() | MasksUnusable():
            return _give_up(task, fact.round, reason=_WHY_GIVEN_UP[type(fact)])
        case ReleaseStored():
            return _publish(task, fact)
    return []


def _notice_score(state: Rounds, evaluated: VersionEvaluated) -> list[JournalEvent]:
    """Only what later decisions rest on stands in the journal: the first score, a voice, and what ends the task."""
    if (heard := hear_score(state, evaluated)) is None:
        return []
    return [Noticed(fact=evaluated), *(_end_task(heard.task, heard.reason) if heard.reason else [])]


def _end_task(task: Task, reason: HaltReason) -> list[JournalEvent]:
    """Give up the open buffer; rounds already proposed are still released, and the last of them halts the task."""
    dropped = _drop_buffer(task, "closed" if reason == "closed" else "halted")
    return dropped if task.pending else [*dropped, _halt(task, reason)]


def _give_up(task: Task, round_id: int, *, reason: str) -> list[JournalEvent]:
    given_up = next((pending for pending in task.pending if pending.id == round_id), None)
    if given_up is None:
        return []
    events: list[JournalEvent] = [_abandon(task, given_up, reason=reason)]
    return [*events, *_open_or_halt(task, versions=task.version + len(task.pending) - 1)]


def _publish(task: Task, release: ReleaseStored) -> list[JournalEvent]:
    awaited = task.find_awaited()
    # A host that opens the partition again stores a release once more; only the awaited round becomes a version.
    if awaited is None or awaited.id != release.round:
        return []
    task_id, version = release.task, task.version + 1
    stored = SumStored(
        task=task_id,
        round=release.round,
        members=len(awaited.members),
        sum_sha256=release.sum_sha256,
        body=None,
        metrics=release.metrics,
    )
    published = ModelPublished(
        task=task_id,
        version=version,
        round=release.round,
        model=release.model,
        moments=release.moments,
        members_root=awaited.proposed.members_root if awaited.proposed else None,
        members=len(awaited.members),
        awaits_helpers=task.created.policy.is_masked or UNSET,
    )
    events = [stored, *judge_round(task, awaited, compared=release.compared), published]
    events += judge_drift(task, version, distances=release.distances)
    if not release.is_sound and task.status != "halted":
        halted = TaskHalted(task=task_id, reason="diverged", version=version)
        return [*events, *_drop_buffer(task, "halted"), halted]
    return [*events, *_open_or_halt(task, versions=task.version + len(task.pending), version=version)]


def _open_or_halt(task: Task, *, versions: int, version: int | None = None) -> list[JournalEvent]:
    """What follows when a pending round is gone: a new buffer where none is open, or the halt that was waiting."""
    if task.buffer is not None or task.status == "halted":
        return []
    newest = task.version if version is None else version
    return _go_on(task, versions=versions, pending=len(task.pending) - 1, newest=newest)


def _go_on(task: Task, *, versions: int, pending: int, newest: int) -> list[JournalEvent]:
    """A new buffer or, once no round is `pending` any more, the halt; `newest` is the version that there is then."""
    reason = _next_halt(task, versions=versions, exhausted=task.exhausted)
    if reason is None:
        return [RoundOpened(task=task.created.task, round=task.next_round)]
    # Rounds behind this one still become versions; the last of them halts the task.
    if pending > 0:
        return []
    return [TaskHalted(task=task.created.task, reason=reason, version=newest if newest >= 0 else None)]


def _turn_epoch(task: Task | None, fact: EpochInput, *, time_ms: int) -> list[JournalEvent]:
    if task is None or task.epochs is UNSET:
        return []
    if isinstance(fact, EpochMade):
        is_next = wants_epoch(task) and fact.epoch == task.epochs.next
        return [EpochOpened(task=fact.task, epoch=fact.epoch, statement=fact.statement)] if is_next else []
    if fact.reason == "lost":
        return _lose_epoch(task, fact.epoch) if fact.epoch in task.epochs.held else []
    is_over = fact.epoch in list_over(task, time_ms)
    return [EpochDestroyed(task=fact.task, epoch=fact.epoch, reason="over")] if is_over else []


def _lose_epoch(task: Task, epoch: int) -> list[JournalEvent]:
    """No round with a member under the epoch can be summed any more; those without go on."""
    lost = [round_ for round_ in task.rounds() if any(each.epoch == epoch for each in round_.members.values())]
    events: list[JournalEvent] = [EpochDestroyed(task=task.created.task, epoch=epoch, reason="lost")]
    events += [_abandon(task, round_, reason="epoch_lost") for round_ in lost]
    if not lost or task.status == "halted" or (task.buffer is not None and task.buffer not in lost):
        return events
    pending = sum(round_ not in lost for round_ in task.pending)
    return [*events, *_go_on(task, versions=task.version + pending, pending=pending, newest=task.version)]


def _hear(state: Rounds, heard: HelperHeard | VersionEvaluated | Claim) -> list[JournalEvent]:
    """What a helper of a masked task, an evaluator, or a rollout says."""
    if isinstance(heard, VersionEvaluated):
        return _notice_score(state, heard)
    if not isinstance(heard, HelperHeard):
        return [Noticed(fact=heard)] if is_held_for(state, heard) else []
    task = state.tasks.get(heard.event.task)
    if task is None or task.epochs is UNSET:
        return []
    match heard.event:
        case MaskKeyOpened():
            return offer_key(task, heard)
        case ModelCosigned():
            return hear_cosignature(task, heard)
        case MaskKeyDestroyed(reason="lost") if heard.event.epoch in task.epochs.held:
            return _lose_epoch(task, heard.event.epoch)
        case MasksSummed() if find_answered(task, heard.event) is not None:
            given_up = [] if heard.is_fit else _give_up(task, heard.event.round, reason="masks_unusable")
            return [Noticed(fact=heard.event), *given_up]
        case MasksRefused() if find_answered(task, heard.event) is not None:
            return [Noticed(fact=heard.event), *_give_up(task, heard.event.round, reason="masks_refused")]
    return []


def make_decider(key_id: bytes) -> Decider[Rounds]:
    """The aggregator as a decider; `key_id` names the key of the noise that it asks for."""
    return Decider(initial=Rounds, decide=Aggregator(key_id).decide, evolve=evolve, entries=entries)
