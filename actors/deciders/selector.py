"""The selector: which device may train, from which version, and until when."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import get_args

from actors.deciders.decider import Decider
from actors.deciders.devices import Device, Devices
from actors.deciders.drawing import compute_wait_ms, draw_ticket
from actors.deciders.utility import Utilities, compute_score
from schemas.events import (
    CheckinsDeclined,
    DeclineReason,
    DeviceCheckedIn,
    JournalEvent,
    LearningFailure,
    LeaseAbandoned,
    LeaseClosed,
    LeaseGranted,
    ModelPublished,
    Noticed,
    RoundAbandoned,
    RoundProposed,
    TaskClosed,
    TaskCreated,
    TaskHalted,
    TaskPaused,
    TaskResumed,
    Tick,
    UpdateAdmitted,
    UpdateRefused,
)
from schemas.identifiers import BodyRef

# An update may be appended right before its deadline and decided a little later; its lease stays open that long.
GRACE_MS = 2_000
# How far a check-in may be from log time: clocks differ, and one that was recorded is good for no longer.
FRESH_MS = 600_000
# What will not pass soon is asked about this many times less often than the policy's wait says.
LATER = 12
EXPIRED_AT_ONCE_MAX = 1_000  # so that one decision stays a small record


@dataclass(frozen=True, slots=True)
class OpenLease:
    """A lease in flight, and the model that it starts from."""

    granted: LeaseGranted
    model: BodyRef


@dataclass(slots=True)
class Task:
    """One task as the selector sees it. `leases` is by device, in the order of granting, hence of deadlines.

    `in_flight` and `taken` count slots, by cohort and in all: leases that are open, and in a synchronous task also the
    updates that its round has, but no lease of an earlier version. `resting` has until when a device that gave a
    lease up gets no other: one that cannot train would be given slot after slot.
    """

    created: TaskCreated
    status: str = "open"
    version: int = -1
    model: BodyRef | None = None
    pending: int = 0
    round: int = 0
    opened_ms: int = 0  # when the newest version, or the round after an abandoned one, was heard of
    granted: int = 0
    taken: int = 0
    devices: Devices = field(default_factory=Devices)
    leases: dict[str, OpenLease] = field(default_factory=dict)
    resting: dict[str, int] = field(default_factory=dict)
    in_flight: dict[str, int] = field(default_factory=dict)
    utilities: Utilities = field(default_factory=Utilities)  # empty unless the policy's rule looks at them

    @property
    def is_synchronous(self) -> bool:
        """Whether a round takes updates of the newest version only."""
        return self.created.policy.staleness.max_versions == 0

    def find_wait_ms(self, device: str, time_ms: int) -> int:
        """How long from now this device has to wait for its turn in a synchronous round."""
        if self.model is None or not self.is_synchronous:
            return 0
        drawn = draw_ticket(self.created, round_id=self.round, model_sha256=self.model.sha256, device=device)
        wanted, group = self.created.policy.selection, None
        if wanted.rule == "utility":
            place, known = self.devices.places.get(device), self.devices.get(device)
            group = self.utilities.find_group(place, wanted=wanted)
            drawn = self.utilities.rank(place, drawn, device=known, round_id=self.round)
        return max(0, self.opened_ms + compute_wait_ms(self.created, drawn, group=group) - time_ms)

    def lease_of(self, device: str, lease: str) -> OpenLease | None:
        """The device's lease in flight, if it is this one."""
        held = self.leases.get(device)
        return held if held is not None and held.granted.lease == lease else None


@dataclass(slots=True)
class Selections:
    """All tasks of one partition."""

    tasks: dict[str, Task] = field(default_factory=dict)


SelectorInput = DeviceCheckedIn | LeaseAbandoned | Tick | JournalEvent


def decide(state: Selections, fact: SelectorInput, time_ms: int) -> list[JournalEvent]:
    """The events that this input causes."""
    match fact:
        case DeviceCheckedIn():
            return _decide_checkin(state, fact, time_ms=time_ms)
        case LeaseAbandoned():
            return _abandon_lease(state.tasks.get(fact.task), fact)
        case Tick():
            return list(_expire_leases(state.tasks.values(), time_ms))
        case UpdateAdmitted():
            return _end_lease(state, fact, outcome_round=fact.round)
        case UpdateRefused():
            return _end_lease(state, fact, outcome_round=None)
        case Noticed(fact=TaskCreated() | TaskPaused() | TaskResumed() | TaskClosed() as noticed):
            return [Noticed(fact=noticed)]
        case RoundProposed() | ModelPublished() | RoundAbandoned() | TaskHalted():
            return [Noticed(fact=fact)]
    return []


def _decide_checkin(state: Selections, checkin: DeviceCheckedIn, *, time_ms: int) -> list[JournalEvent]:
    reason, task = why_not(state, checkin, time_ms=time_ms), state.tasks.get(checkin.task)
    if reason is not None or task is None:
        return [CheckinsDeclined(task=checkin.task if task else None, counts={reason or "unknown_task": 1})]
    # A device that lost its answer asks again; a second lease would let it take part twice.
    if checkin.device in task.leases:
        return []  # the answer repeats the lease
    return [
        LeaseGranted(
            task=checkin.task,
            lease=name_lease(task.created, task.granted),
            device=checkin.device,
            public_key=checkin.public_key,
            sent_ms=checkin.sent_ms,
            version=task.version,
            deadline_ms=time_ms + task.created.policy.lease_ms,
            cohort=checkin.cohort,
        )
    ]


def name_lease(created: TaskCreated, number: int) -> str:
    """An id that no other lease of the operator has, without entropy: `decide` must give the same on every replay."""
    # The deployment is in it, or a lease of another with the same task would pass for a repeat of this one.
    return hashlib.sha256(created.deployment + f"/{created.task}/{number}".encode()).hexdigest()[:32]


def why_not(state: Selections, checkin: DeviceCheckedIn, *, time_ms: int) -> DeclineReason | None:
    """Why this device gets no lease now; None when it gets one, or has one in flight already."""
    task = state.tasks.get(checkin.task)
    if task is None:
        return "unknown_task"
    device = task.devices.get(checkin.device)
    # Before the lease in flight is looked at: a check-in that somebody has recorded must not move anything.
    if device is not None and checkin.sent_ms <= device.sent_ms:
        return "replayed"
    # A device that is not known yet, or whose check-ins were all declined, has nothing that it must exceed.
    if abs(time_ms - checkin.sent_ms) > FRESH_MS:
        return "clock"
    if checkin.device in task.leases:
        return None
    if task.resting.get(checkin.device, 0) > time_ms:
        return "gave_up"
    reason = _task_reason(task) or _device_reason(task, device) or _condition(task, checkin) or _slot(task, checkin)
    # Last, so that the wait which the device is told is worth its while.
    return reason or ("not_drawn" if task.find_wait_ms(checkin.device, time_ms) else None)


def _task_reason(task: Task) -> DeclineReason | None:
    if task.status == "closed":
        return "closed"
    if task.status == "paused":
        return "paused"
    if task.model is None:
        return "no_model"
    # A device that starts now would be too stale at admission.
    return "round_pending" if task.pending > task.created.policy.staleness.max_versions else None


def _device_reason(task: Task, device: Device | None) -> DeclineReason | None:
    cap = task.created.participations_cap
    if cap is not None and (device.participations if device else 0) >= cap:
        return "participations"
    return "in_round" if device is not None and device.round == task.round else None


def _condition(task: Task, checkin: DeviceCheckedIn) -> DeclineReason | None:
    wanted = task.created.policy.selection
    if checkin.battery_percent < wanted.battery_min_percent:
        return "battery"
    if wanted.require_charging and not checkin.charging:
        return "not_charging"
    if wanted.require_unmetered and not checkin.unmetered:
        return "metered"
    if wanted.require_idle and not checkin.idle:
        return "not_idle"
    return "too_few_samples" if checkin.samples < wanted.samples_min else None


def _slot(task: Task, checkin: DeviceCheckedIn) -> DeclineReason | None:
    wanted = task.created.policy.selection
    if task.taken >= wanted.concurrency:
        return "no_slot"
    if not wanted.cohort_shares:
        return None
    share = wanted.cohort_shares.get(checkin.cohort)
    if share is None:
        return "unknown_cohort"
    # Rounded up, so that a small share of a small concurrency still gets one slot.
    return "no_slot" if task.in_flight.get(checkin.cohort, 0) >= math.ceil(share * wanted.concurrency) else None


def _expire_leases(tasks: Iterable[Task], time_ms: int) -> Iterable[JournalEvent]:
    left = EXPIRED_AT_ONCE_MAX
    for task in tasks:
        for lease in task.leases.values():
            # Leases are in the order of their deadlines, so the first that is not over ends the search.
            if left == 0 or lease.granted.deadline_ms + GRACE_MS >= time_ms:
                break
            left -= 1
            granted = lease.granted
            yield LeaseClosed(
                task=granted.task, lease=granted.lease, device=granted.device, outcome="expired", round=None
            )


def _end_lease(
    state: Selections, fact: UpdateAdmitted | UpdateRefused, *, outcome_round: int | None
) -> list[JournalEvent]:
    task = state.tasks.get(fact.task)
    # A refusal changes nothing once the lease has expired; an admission still counts as a participation.
    if task is None or (outcome_round is None and not task.lease_of(fact.device, fact.update)):
        return []
    outcome = "refused" if outcome_round is None else "used"
    loss, samples = _read_report(task.created, fact)
    return [
        LeaseClosed(
            task=fact.task,
            lease=fact.update,
            device=fact.device,
            outcome=outcome,  # type: ignore[arg-type]
            round=outcome_round,
            loss=loss,
            samples=samples,
        )
    ]


def _read_report(created: TaskCreated, fact: UpdateAdmitted | UpdateRefused) -> tuple[int | None, int | None]:
    """The loss that a device reports and its examples, where the policy's rule looks at them."""
    rules = created.policy
    if rules.selection.rule != "utility" or not isinstance(fact, UpdateAdmitted) or not fact.metrics:
        return None, None
    return fact.metrics[rules.evaluation.report.index("loss")], fact.samples


def _abandon_lease(task: Task | None, fact: LeaseAbandoned) -> list[JournalEvent]:
    """The slot is free at once. A repeat, or a lease of another device, is nothing here."""
    if task is None or task.lease_of(fact.device, fact.lease) is None:
        return []
    # With privacy nothing that an example can cause may change who arrives, whatever a device says.
    if task.created.policy.privacy is not None and fact.reason in get_args(LearningFailure):
        return []
    return [
        LeaseClosed(
            task=fact.task, lease=fact.lease, device=fact.device, outcome="abandoned", round=None, reason=fact.reason
        )
    ]


def evolve(state: Selections, event: JournalEvent, time_ms: int) -> None:
    """Fold one event into the state."""
    match event:
        case LeaseGranted():
            _grant(state.tasks[event.task], event)
        case LeaseClosed():
            _close(state.tasks[event.task], event, time_ms=time_ms)
        case Noticed(fact=TaskCreated() as created):
            state.tasks[created.task] = Task(created)
        case Noticed(fact=noticed) if noticed.task in state.tasks:
            _notice(state.tasks[noticed.task], noticed, time_ms=time_ms)


def _grant(task: Task, granted: LeaseGranted) -> None:
    assert task.model is not None
    task.granted += 1
    task.leases[granted.device] = OpenLease(granted, task.model)
    _take_slot(task, granted.cohort)
    task.devices.note_lease(granted.device, granted.sent_ms)


def _close(task: Task, closed: LeaseClosed, *, time_ms: int) -> None:
    lease = task.lease_of(closed.device, closed.lease)
    # An expired lease may be closed a second time, by an admission that was decided late.
    if lease is not None:
        del task.leases[closed.device]
        _leave_slot(task, lease.granted, closed=closed)
        if closed.outcome == "abandoned":
            _let_rest(task, lease.granted, time_ms=time_ms)
    if closed.round is not None:
        task.devices.take_part(closed.device, closed.round)
    if closed.loss is not None and closed.samples is not None:
        _note_utility(task, closed, lease=lease, time_ms=time_ms)


def _note_utility(task: Task, closed: LeaseClosed, *, lease: OpenLease | None, time_ms: int) -> None:
    lease_ms = task.created.policy.lease_ms
    # A lease that has expired before its admission was heard of took all of its time.
    took_ms = lease_ms if lease is None else time_ms - (lease.granted.deadline_ms - lease_ms)
    fast_ms = round(task.created.policy.selection.fast_s * 1000)
    assert closed.loss is not None
    assert closed.samples is not None
    score = compute_score(closed.loss, closed.samples, took_ms=took_ms, fast_ms=fast_ms)
    task.utilities.note(task.devices.places[closed.device], score)


def _let_rest(task: Task, granted: LeaseGranted, *, time_ms: int) -> None:
    """No other lease for the device for a while, and not longer than this one would have lasted."""
    # From the oldest, and no further than somebody who still rests, so that a crowd costs no walk of all.
    while task.resting and next(iter(task.resting.values())) <= time_ms:
        del task.resting[next(iter(task.resting))]
    rest_ms = round(task.created.policy.selection.retry_after_s * 1000) * LATER
    task.resting.pop(granted.device, None)
    task.resting[granted.device] = min(granted.deadline_ms, time_ms + rest_ms)


def _take_slot(task: Task, cohort: str) -> None:
    task.taken += 1
    task.in_flight[cohort] = task.in_flight.get(cohort, 0) + 1


def _leave_slot(task: Task, granted: LeaseGranted, *, closed: LeaseClosed) -> None:
    """The lease is over, and its slot free, unless a synchronous round has its update, or never counted it."""
    if task.is_synchronous and (granted.version != task.version or closed.round == task.round):
        return
    cohort, shares = granted.cohort, task.created.policy.selection.cohort_shares
    task.taken -= 1
    task.in_flight[cohort] -= 1
    # Where no cohort has a share a device may name any, and another with each lease.
    if not task.in_flight[cohort] and cohort not in {"", *shares}:
        del task.in_flight[cohort]


def _open_round(task: Task, time_ms: int) -> None:
    """All slots of a synchronous round are free, but those of leases that are good for it too."""
    task.opened_ms = time_ms
    if not task.is_synchronous:
        return
    task.taken, task.in_flight = 0, {}
    for lease in task.leases.values():
        if lease.granted.version == task.version:
            _take_slot(task, lease.granted.cohort)


def _notice(task: Task, noticed: object, *, time_ms: int) -> None:
    match noticed:
        case TaskPaused() if task.status == "open":
            task.status = "paused"
        case TaskResumed() if task.status == "paused":
            task.status = "open"
        case TaskClosed() | TaskHalted():
            task.status = "closed"
        case RoundProposed():
            task.pending += 1
            task.round = noticed.round + 1
        case RoundAbandoned():
            # A buffer that is dropped before its proposal is abandoned too, and was never pending.
            task.pending = max(0, task.pending - 1)
            _open_round(task, time_ms)
        case ModelPublished():
            # Version 0 comes of no round, so it takes none from the pending ones.
            task.version, task.model = noticed.version, noticed.model
            task.pending -= noticed.round is not None
            _open_round(task, time_ms)


def entries(state: Selections) -> int:
    """Devices known, over all tasks."""
    return sum(len(task.devices) for task in state.tasks.values())


SELECTOR: Decider[Selections] = Decider(initial=Selections, decide=decide, evolve=evolve, entries=entries)


def make_decider(key_id: bytes) -> Decider[Selections]:
    """The selector as a decider; it asks for no noise, so that `key_id` plays no part."""
    return SELECTOR
