"""Why a device gets no lease now: the task's reasons, the device's own, what the policy asks for, and free slots."""

from __future__ import annotations

import math
from dataclasses import dataclass

from actors.deciders.populations.budgets import is_exhausted
from actors.deciders.selecting.state import Selections, Task
from schemas.events import DeclineReason, DeviceCheckedIn, TaskCreated
from schemas.identity.certificates import DeviceCertificate
from schemas.topics import population_of

# How far a check-in may be from log time: clocks differ, and one that was recorded is good for no longer.
FRESH_MS = 600_000


@dataclass(frozen=True, slots=True)
class CheckedIn:
    """A check-in, and what a registrar has certified of its key; None where nothing is believed."""

    checkin: DeviceCheckedIn
    certificate: DeviceCertificate | None = None

    def name_unit(self, created: TaskCreated) -> str:
        """As whom it counts in this task."""
        subject = self.certificate.subject if self.certificate else None
        # In an open task a certificate is nothing, or whoever shows one would count twice: with it, and without.
        return subject if created.policy.is_enrolled and subject is not None else self.checkin.device


def why_not(state: Selections, asked: CheckedIn, *, time_ms: int) -> DeclineReason | None:
    """Why this device gets no lease now; None when it gets one, or has one in flight already."""
    checkin, task = asked.checkin, state.tasks.get(asked.checkin.task)
    if task is None:
        return "unknown_task"
    if task.created.policy.is_enrolled and (unknown := _identity_reason(state, asked, task=task, time_ms=time_ms)):
        return unknown
    unit = asked.name_unit(task.created)
    device = task.devices.get(unit)
    # Before the lease in flight is looked at: a check-in that somebody has recorded must not move anything.
    if device is not None and checkin.sent_ms <= device.sent_ms:
        return "replayed"
    # A device that is not known yet, or whose check-ins were all declined, has nothing that it must exceed.
    if abs(time_ms - checkin.sent_ms) > FRESH_MS:
        return "clock"
    if (held := task.leases.get(unit)) is not None:
        return None if held.granted.device == checkin.device else "subject_busy"
    if task.resting.get(unit, 0) > time_ms:
        return "gave_up"
    reason = _task_reason(state, task) or _device_reason(state, task, unit=unit) or _condition(task, checkin)
    reason = reason or _slot(task, checkin)
    # Last, so that the wait which the device is told is worth its while.
    return reason or ("not_drawn" if task.find_wait_ms(unit, time_ms) else None)


def _identity_reason(state: Selections, asked: CheckedIn, *, task: Task, time_ms: int) -> DeclineReason | None:
    """What is wrong with the certificate that a check-in shows; a lease in flight does not outlast it."""
    found = asked.certificate
    if found is None or found.public_key != asked.checkin.public_key:
        return "not_enrolled"
    if found.population != population_of(asked.checkin.task):
        return "other_population"
    if asked.checkin.device in state.revoked or found.subject in state.revoked:
        return "revoked"
    if time_ms > found.until_ms:
        return "certificate_expired"
    return None if task.created.policy.takes_class(found.device_class) else "other_class"


def _task_reason(state: Selections, task: Task) -> DeclineReason | None:
    if task.status == "closed":
        return "closed"
    if task.status == "paused":
        return "paused"
    # There is a version to come, and what holds it back is a helper.
    is_held = bool(state.find_cosigned(task.created.task).waiting)
    # Nor is there anything to train from while nobody can say to which key.
    if task.model is None or task.newest_epoch is None:
        return "not_cosigned" if is_held and task.model is None else "no_model"
    if task.pending <= task.created.policy.staleness.max_versions:
        return None
    # A device that starts now would be too stale at admission.
    return "not_cosigned" if is_held else "round_pending"


def _device_reason(state: Selections, task: Task, *, unit: str) -> DeclineReason | None:
    if state.is_quarantined(task.created.task, unit):
        return "quarantined"
    if is_exhausted(state, task, unit=unit):
        return "participations"
    device = task.devices.get(unit)
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
