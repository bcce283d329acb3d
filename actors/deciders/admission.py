"""Whether an update is admitted, what its admission says, and when a round is full. `aggregator` decides by it.

Its effects ask first: the body of an update that is refused anyhow is not fetched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from msgspec import UNSET, UnsetType

from actors.deciders.aggregator_state import Rounds, Task
from actors.deciders.epochs import is_too_late
from actors.deciders.populations.budgets import is_exhausted
from schemas.events import BodyFault, CountedReason, RefusalReason, UpdateAdmitted, name_unit
from schemas.identifiers import BodyRef
from schemas.leases import Lease, is_overlong
from schemas.policy import Policy
from schemas.policy.metrics import Fidelity, limit_samples, list_open_reports

COUNTED = frozenset(get_args(CountedReason))


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateChecked:
    """An update whose seal, signature and body were checked outside: facts, handed in as data.

    `append_ms` is the append time of its record. `refusal` is the answer of `refusal` on the state that decides: it is
    worked out once, before the body is fetched, because the body of a refused update is not looked at. `fault` is None
    for a body that can be added. `salt` are random bytes, drawn outside because a decision draws nothing;
    `record_sha256` is for the answer to the device alone. `submitted_at` is where its record stands in `updates`: its
    offset, and the number of the message in it.
    """

    lease: Lease
    record_sha256: bytes
    body: BodyRef
    samples: int
    metrics: tuple[int, ...]
    append_ms: int
    refusal: RefusalReason | CountedReason | None
    clip_scale: int
    fault: BodyFault | None
    salt: bytes
    fidelity: Fidelity | None = None
    submitted_at: tuple[int, int] | UnsetType = UNSET


def staleness_of(task: Task, version: int) -> int:
    """Staleness in versions at this moment: newest version + rounds pending - base version."""
    return task.version + len(task.pending) - version


def refusal(state: Rounds, lease: Lease, *, append_ms: int) -> RefusalReason | CountedReason | None:
    """Why an update under this lease is in no round, whatever its body is; None if only the body matters now.

    A repeat is told apart first, so that its answer is the outcome that it had, whatever has changed since. The append
    time decides: how long an update waits for its decision is not the fault of its device.
    """
    task = state.tasks.get(lease.task)
    if task is None:
        return "unknown_task"
    if lease.lease in task.outcomes:
        return "duplicate"
    if _is_of_another_policy(task, lease, append_ms=append_ms):
        return "other_policy"
    if append_ms > lease.deadline_ms:
        return "expired"
    if task.status == "halted" or task.ending == "closed":
        return "closed"
    # Between the last proposal and the halt no round is open.
    if task.buffer is None:
        return "finished"
    # A seal outlives a log that was cut or restored: the version may not exist here.
    if lease.version > task.version:
        return "from_the_future"
    # Of lease and time alone, so that it may refuse with privacy too.
    if is_too_late(task, lease, append_ms=append_ms):
        return "epoch_over"
    return _staleness_refusal(task, lease) or _device_refusal(state, task, lease=lease)


def _is_of_another_policy(task: Task, lease: Lease, *, append_ms: int) -> bool:
    policy = task.created.policy
    return (
        lease.policy_sha256 != task.created.policy_sha256
        # Without a subject a person would count as often as they have keys.
        or policy.is_enrolled != (lease.subject is not UNSET)
        or policy.has_epochs != (lease.epoch is not UNSET)
        # A selector that was taken over must not move how long outcomes are remembered.
        or is_overlong(lease, lease_ms=policy.lease_ms, at_ms=append_ms)
    )


def _staleness_refusal(task: Task, lease: Lease) -> RefusalReason | None:
    staleness = staleness_of(task, lease.version)
    return "stale" if staleness >= len(task.created.weights) or task.created.weights[staleness] == 0 else None


def _device_refusal(state: Rounds, task: Task, *, lease: Lease) -> RefusalReason | None:
    assert task.buffer is not None
    if task.watch is not UNSET and name_unit(lease) in task.watch.quarantined:
        return "quarantined"
    # Two updates of one device in one round would count twice against what the mechanism covers.
    if name_unit(lease) in task.buffer.members:
        return "in_round"
    # The selector grants no lease past the cap; this is checked again because the guarantee must not rest on it.
    return "participations" if is_exhausted(state, task, unit=name_unit(lease)) else None


def is_full(task: Task, *, members: int, opened_ms: int, time_ms: int) -> bool:
    """Whether a round with so many members is proposed now: by count, or by log time where the policy says so."""
    rules = task.created.policy.aggregation
    if members >= rules.updates_per_round:
        return True
    return bool(rules.round_s) and members >= rules.updates_min and time_ms - opened_ms >= rules.round_s * 1000


def admit(task: Task, update: UpdateChecked, *, round_id: int) -> UpdateAdmitted:
    lease, policy = update.lease, task.created.policy
    staleness = staleness_of(task, lease.version)
    # Reported samples are not trusted: at least one, because a weight of zero would be no part of the round.
    samples = max(1, min(update.samples, policy.aggregation.samples_max))
    return UpdateAdmitted(
        task=lease.task,
        round=round_id,
        update=lease.lease,
        device=lease.device,
        body=update.body,
        version=lease.version,
        staleness=staleness,
        weight=task.created.weights[staleness] * samples,
        # A scale of zero makes the vector zero wherever the sum is computed again.
        clip_scale=0 if update.fault else update.clip_scale,
        zeroed=update.fault,
        # Another number than the policy asks for is no report, and costs the update nothing.
        metrics=update.metrics if _reports_openly(policy, update.metrics) else (),
        samples=limit_samples(update.samples),
        salt=update.salt,
        deadline_ms=lease.deadline_ms,
        # With privacy it would say something of a vector that no noise covers, whatever a device tells.
        fidelity=update.fidelity if policy.privacy is None and not policy.has_epochs else None,
        subject=lease.subject,
        epoch=lease.epoch,
        submitted_at=update.submitted_at if policy.is_masked else UNSET,
    )


def _reports_openly(policy: Policy, metrics: tuple[int, ...]) -> bool:
    """Whether these are the metrics of one device as its journal may have them: a sealed task keeps their sums only."""
    return len(metrics) == len(list_open_reports(policy)) and not policy.is_sealed
