"""What the selector knows: the tasks of one partition, folded from its journal. `selector` decides on it."""

from __future__ import annotations

from dataclasses import dataclass, field

from msgspec import UNSET, UnsetType

from actors.deciders.populations.budgets import Budgets, find_budget, set_budget
from actors.deciders.selecting.cosigned import Cosigned
from actors.deciders.selecting.devices import Devices
from actors.deciders.selecting.drawing import compute_wait_ms, draw_ticket
from actors.deciders.selecting.utility import Utilities, compute_score
from schemas.events import (
    CosignatureHeard,
    DeviceQuarantined,
    DeviceRevoked,
    EpochDestroyed,
    EpochOpened,
    JournalEvent,
    LeaseClosed,
    LeaseGranted,
    ModelPublished,
    Noticeable,
    Noticed,
    PopulationBudgetSet,
    QuarantineLifted,
    RoundAbandoned,
    RoundProposed,
    TaskClosed,
    TaskCreated,
    TaskHalted,
    TaskPaused,
    TaskResumed,
    name_unit,
)
from schemas.identifiers import BodyRef
from schemas.identity.certificates import CERTIFICATE_MS

# What will not pass soon is asked about this many times less often than the policy's wait says.
LATER = 12
# Clocks of brokers differ, and so does log time from partition to partition.
REVOKED_MS = CERTIFICATE_MS + 86_400_000


@dataclass(frozen=True, slots=True)
class OpenLease:
    """A lease in flight, and the model that it starts from."""

    granted: LeaseGranted
    model: BodyRef


@dataclass(slots=True)
class Task:
    """One task as the selector sees it. `leases` is in the order of granting, hence of deadlines.

    `devices`, `leases` and `resting` are by unit: the device's id, or where devices are enrolled their subject.

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
    epochs: dict[int, bytes] | UnsetType = UNSET  # of a sealed task: the signed keys that leases name, by number

    @property
    def newest_epoch(self) -> int | UnsetType | None:
        """The epoch that a lease names; unset where the policy asks for none, None where none is open."""
        return UNSET if self.epochs is UNSET else max(self.epochs, default=None)

    def count_participations(self, unit: str) -> int:
        """How often the device, or its subject where devices are enrolled, has taken part."""
        known = self.devices.get(unit)
        return 0 if known is None else known.participations

    @property
    def is_synchronous(self) -> bool:
        """Whether a round takes updates of the newest version only."""
        return self.created.policy.staleness.max_versions == 0

    def find_wait_ms(self, unit: str, time_ms: int) -> int:
        """How long from now this device or subject has to wait for its turn in a synchronous round."""
        if self.model is None or not self.is_synchronous:
            return 0
        drawn = draw_ticket(self.created, round_id=self.round, model_sha256=self.model.sha256, device=unit)
        wanted, group = self.created.policy.selection, None
        if wanted.rule == "utility":
            place, known = self.devices.places.get(unit), self.devices.get(unit)
            group = self.utilities.find_group(place, wanted=wanted)
            drawn = self.utilities.rank(place, drawn, device=known, round_id=self.round)
        return max(0, self.opened_ms + compute_wait_ms(self.created, drawn, group=group) - time_ms)

    def lease_of(self, unit: str, lease: str) -> OpenLease | None:
        """The lease in flight of a device or subject, if it is this one."""
        held = self.leases.get(unit)
        return held if held is not None and held.granted.lease == lease else None


@dataclass(slots=True)
class Selections:
    """All tasks of one partition, and since when devices and subjects are revoked, whose certificates still run."""

    tasks: dict[str, Task] = field(default_factory=dict)
    revoked: dict[str, int] = field(default_factory=dict)
    budgets: Budgets = UNSET  # of its populations
    # By task: who is quarantined, and with which round it came so far. Not in `Task`, which has as many fields as the
    # short form of its encoding counts: with one more the digests of recorded states would be others.
    quarantined: dict[str, dict[str, int]] | UnsetType = UNSET
    # By masked task, and here for the same reason: versions whose model not every helper has co-signed yet.
    cosigned: dict[str, Cosigned] | UnsetType = UNSET

    def is_quarantined(self, task: str, unit: str) -> bool:
        """Whether a device, or its subject where devices are enrolled, is let in no more."""
        return self.quarantined is not UNSET and unit in self.quarantined.get(task, ())

    def find_cosigned(self, task: str) -> Cosigned:
        """What helpers have co-signed of a task."""
        return Cosigned() if self.cosigned is UNSET else self.cosigned.get(task, Cosigned())


@dataclass(slots=True)
class SelectionsBefore:
    """The same as releases held it that knew of no enrolment."""

    tasks: dict[str, Task]


def evolve(state: Selections, event: JournalEvent, time_ms: int) -> None:
    """Fold one event into the state."""
    match event:
        case LeaseGranted():
            _grant(state.tasks[event.task], event)
        case LeaseClosed():
            _close(state.tasks[event.task], event, time_ms=time_ms)
        case Noticed(fact=fact):
            _hear(state, fact, time_ms=time_ms)


def _hear(state: Selections, fact: Noticeable, *, time_ms: int) -> None:
    match fact:
        case TaskCreated():
            state.tasks[fact.task] = Task(fact, epochs={} if fact.policy.has_epochs else UNSET)
            if (budget := find_budget(state.budgets, fact.task)) is not None:
                budget.tasks.append(fact.task)
        case PopulationBudgetSet():
            state.budgets = set_budget(state.budgets, fact, tasks=state.tasks)
        case DeviceRevoked():
            _revoke(state, fact, time_ms=time_ms)
        case DeviceQuarantined() | QuarantineLifted():
            _quarantine(state, fact)
        case ModelPublished(awaits_helpers=True) | CosignatureHeard():
            if fact.task in state.tasks:
                _await_helpers(state, fact, time_ms=time_ms)
        case _:
            if fact.task in state.tasks:
                _notice(state.tasks[fact.task], fact, time_ms=time_ms)


def _revoke(state: Selections, revoked: DeviceRevoked, *, time_ms: int) -> None:
    # Its last certificate has run out by then, and the registrar gives it no other.
    while state.revoked and next(iter(state.revoked.values())) + REVOKED_MS < time_ms:
        del state.revoked[next(iter(state.revoked))]
    gone = revoked.device or revoked.subject
    if gone is not None:
        state.revoked.pop(gone, None)
        state.revoked[gone] = time_ms


def _grant(task: Task, granted: LeaseGranted) -> None:
    assert task.model is not None
    task.granted += 1
    task.leases[name_unit(granted)] = OpenLease(granted, task.model)
    _take_slot(task, granted.cohort)
    task.devices.note_lease(name_unit(granted), granted.sent_ms)


def _close(task: Task, closed: LeaseClosed, *, time_ms: int) -> None:
    unit = name_unit(closed)
    lease = task.lease_of(unit, closed.lease)
    # An expired lease may be closed a second time, by an admission that was decided late.
    if lease is not None:
        del task.leases[unit]
        _leave_slot(task, lease.granted, closed=closed)
        if closed.outcome == "abandoned":
            _let_rest(task, lease.granted, time_ms=time_ms)
    if closed.round is not None:
        task.devices.take_part(unit, closed.round)
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
    task.utilities.note(task.devices.places[name_unit(closed)], score)


def _let_rest(task: Task, granted: LeaseGranted, *, time_ms: int) -> None:
    """No other lease for the device for a while, and not longer than this one would have lasted."""
    # From the oldest, and no further than somebody who still rests, so that a crowd costs no walk of all.
    while task.resting and next(iter(task.resting.values())) <= time_ms:
        del task.resting[next(iter(task.resting))]
    rest_ms = round(task.created.policy.selection.retry_after_s * 1000) * LATER
    task.resting.pop(name_unit(granted), None)
    task.resting[name_unit(granted)] = min(granted.deadline_ms, time_ms + rest_ms)


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
            _abandon(task, noticed)
            _open_round(task, time_ms)
        case EpochOpened() | EpochDestroyed():
            _turn_epoch(task, noticed)
        case ModelPublished():
            # Version 0 comes of no round, so it takes none from the pending ones.
            task.version, task.model = noticed.version, noticed.model
            task.pending -= noticed.round is not None
            _open_round(task, time_ms)


def _await_helpers(state: Selections, noticed: ModelPublished | CosignatureHeard, *, time_ms: int) -> None:
    """A version of a masked task is the newest one here once every helper has co-signed it."""
    task = state.tasks[noticed.task]
    state.cosigned = {} if state.cosigned is UNSET else state.cosigned
    cosigned = state.cosigned.setdefault(noticed.task, Cosigned())
    if isinstance(noticed, ModelPublished):
        cosigned.waiting.append(noticed)
        return
    for published in cosigned.hear(noticed, helpers=len(task.created.policy.masked_by.helpers)):
        _notice(task, published, time_ms=time_ms)
    cosigned.forget(task.version, {lease.granted.version for lease in task.leases.values()})


def _quarantine(state: Selections, noticed: DeviceQuarantined | QuarantineLifted) -> None:
    state.quarantined = {} if state.quarantined is UNSET else state.quarantined
    units = state.quarantined.setdefault(noticed.task, {})
    if isinstance(noticed, DeviceQuarantined):
        units[name_unit(noticed)] = noticed.round
    else:
        units.pop(name_unit(noticed), None)


def _turn_epoch(task: Task, noticed: EpochOpened | EpochDestroyed) -> None:
    if task.epochs is UNSET:
        return
    if isinstance(noticed, EpochDestroyed):
        task.epochs.pop(noticed.epoch, None)
        return
    named = {lease.granted.epoch for lease in task.leases.values()}
    # A lease in flight is answered with its own, and no other is needed any more.
    kept = {number: statement for number, statement in task.epochs.items() if number in named}
    task.epochs = {**kept, noticed.epoch: noticed.statement}


def _abandon(task: Task, abandoned: RoundAbandoned) -> None:
    if abandoned.reason == "epoch_lost":
        # It may be the open round of a task that goes on: whoever is in it may be in the next one.
        task.pending -= abandoned.round < task.round
        task.round = max(task.round, abandoned.round + 1)
        return
    # A buffer that is dropped before its proposal is abandoned too, and was never pending.
    task.pending = max(0, task.pending - 1)


def entries(state: Selections) -> int:
    """Devices known, over all tasks."""
    return sum(len(task.devices) for task in state.tasks.values())
