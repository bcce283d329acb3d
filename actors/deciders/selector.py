"""The selector: which device may train, from which version, and until when."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import get_args

from msgspec import UNSET

from actors.deciders.decider import Decider
from actors.deciders.selecting.eligibility import CheckedIn, why_not
from actors.deciders.selecting.state import Selections, SelectionsBefore, Task, entries, evolve
from schemas.events import (
    CheckinsDeclined,
    CosignatureHeard,
    DeviceCheckedIn,
    DeviceQuarantined,
    DeviceRevoked,
    EpochDestroyed,
    EpochOpened,
    JournalEvent,
    LearningFailure,
    LeaseAbandoned,
    LeaseClosed,
    LeaseGranted,
    ModelPublished,
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
    Tick,
    UpdateAdmitted,
    UpdateRefused,
    name_unit,
)

# An update may be appended right before its deadline and decided a little later; its lease stays open that long.
GRACE_MS = 2_000
EXPIRED_AT_ONCE_MAX = 1_000  # so that one decision stays a small record


# What the operator says, and the aggregator has found to count.
_RELAYED = TaskCreated | TaskPaused | TaskResumed | TaskClosed | QuarantineLifted | PopulationBudgetSet
# What the aggregator says of rounds, and of the keys and models that leases name.
_OF_ROUNDS = (
    RoundProposed | ModelPublished | RoundAbandoned | TaskHalted | EpochOpened | EpochDestroyed | CosignatureHeard
)
SelectorInput = CheckedIn | DeviceCheckedIn | LeaseAbandoned | Tick | JournalEvent


def decide(state: Selections, fact: SelectorInput, time_ms: int) -> list[JournalEvent]:
    """The events that this input causes."""
    match fact:
        case CheckedIn():
            return _decide_checkin(state, fact, time_ms=time_ms)
        case DeviceCheckedIn():
            return _decide_checkin(state, CheckedIn(fact), time_ms=time_ms)
        case DeviceRevoked() | DeviceQuarantined():
            return [Noticed(fact=fact)]
        case LeaseAbandoned():
            return _abandon_lease(state.tasks.get(fact.task), fact)
        case Tick():
            return list(_expire_leases(state.tasks.values(), time_ms))
        case UpdateAdmitted():
            return _end_lease(state, fact, outcome_round=fact.round)
        case UpdateRefused():
            return _end_lease(state, fact, outcome_round=None)
        case Noticed(fact=said) if isinstance(said, _RELAYED):
            return [fact]
        case _ if isinstance(fact, _OF_ROUNDS):
            return [Noticed(fact=fact)]
    return []


def _decide_checkin(state: Selections, asked: CheckedIn, *, time_ms: int) -> list[JournalEvent]:
    checkin = asked.checkin
    reason, task = why_not(state, asked, time_ms=time_ms), state.tasks.get(checkin.task)
    if reason is not None or task is None:
        return [CheckinsDeclined(task=checkin.task if task else None, counts={reason or "unknown_task": 1})]
    # A device that lost its answer asks again; a second lease would let it take part twice.
    unit = asked.name_unit(task.created)
    if unit in task.leases:
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
            subject=unit if task.created.policy.is_enrolled else UNSET,
            epoch=UNSET if task.newest_epoch is None else task.newest_epoch,
            running=checkin.running,
        )
    ]


def name_lease(created: TaskCreated, number: int) -> str:
    """An id that no other lease of the operator has, without entropy: `decide` must give the same on every replay."""
    # The deployment is in it, or a lease of another with the same task would pass for a repeat of this one.
    return hashlib.sha256(created.deployment + f"/{created.task}/{number}".encode()).hexdigest()[:32]


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
                task=granted.task,
                lease=granted.lease,
                device=granted.device,
                outcome="expired",
                round=None,
                subject=granted.subject,
            )


def _end_lease(
    state: Selections, fact: UpdateAdmitted | UpdateRefused, *, outcome_round: int | None
) -> list[JournalEvent]:
    task = state.tasks.get(fact.task)
    # A refusal changes nothing once the lease has expired; an admission still counts as a participation.
    if task is None or (outcome_round is None and not task.lease_of(name_unit(fact), fact.update)):
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
            subject=fact.subject,
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
    held = task.lease_of(name_unit(fact), fact.lease) if task is not None else None
    if task is None or held is None or held.granted.device != fact.device:
        return []
    # With privacy nothing that an example can cause may change who arrives, whatever a device says.
    if task.created.policy.privacy is not None and fact.reason in get_args(LearningFailure):
        return []
    return [
        LeaseClosed(
            task=fact.task,
            lease=fact.lease,
            device=fact.device,
            outcome="abandoned",
            round=None,
            reason=fact.reason,
            subject=fact.subject,
        )
    ]


def _show_before(state: Selections) -> object:
    return SelectionsBefore(state.tasks)


SELECTOR: Decider[Selections] = Decider(
    initial=Selections, decide=decide, evolve=evolve, entries=entries, earlier=(_show_before,)
)


def make_decider(key_id: bytes) -> Decider[Selections]:
    """The selector as a decider; it asks for no noise, so that `key_id` plays no part."""
    return SELECTOR
