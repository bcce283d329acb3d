"""Epochs of a sealed or masked task: when another begins, which update comes too late for its own, which key may go.

A lease names the epoch that its selector knew of. The aggregator does not hear of leases, so that it goes by their
longest time: after that nothing under a retired epoch is admitted any more.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from msgspec import UNSET

from actors.deciders.aggregator_state import Task
from actors.deciders.masking.keys import Epoch
from schemas.leases import Lease
from schemas.policy import count_epoch_versions

# How long after the next epoch has begun a selector may not have heard of it.
GRACE_MS = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochMade:
    """The host holds the private key of the next epoch; `statement` is the public one, signed."""

    task: str
    epoch: int
    statement: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochKeyGone:
    """The private key of an epoch is no longer where the host keeps keys: it was destroyed there, or was lost."""

    task: str
    epoch: int
    reason: Literal["over", "lost"]


def wants_epoch(task: Task) -> bool:
    """Whether the task needs a key for the leases to come."""
    epochs = task.epochs
    # Between the last proposal and the halt no lease can lead to anything.
    if epochs is UNSET or task.buffer is None or task.ending is not None or task.status == "halted":
        return False
    newest = epochs.newest
    return newest is None or task.version - newest.version >= count_epoch_versions(task.created.policy)


def is_too_late(task: Task, lease: Lease, *, append_ms: int) -> bool:
    """Whether a sealed update came after the end of its epoch, or of one that never was."""
    if task.epochs is UNSET:
        return False
    epoch = None if lease.epoch is UNSET else task.epochs.held.get(lease.epoch)
    return epoch is None or append_ms > _find_end_ms(task, epoch, default=append_ms)


def list_over(task: Task, time_ms: int) -> Iterator[int]:
    """Epochs whose key nobody needs any more at this time."""
    if task.epochs is UNSET:
        return
    kept_ms = round(task.created.policy.sealed_by.kept_s * 1000)
    for number in list_idle(task):
        epoch = task.epochs.held[number]
        assert epoch.retired_ms is not None
        # Once the task has halted no update counts, whenever it comes.
        end_ms = epoch.retired_ms if task.status == "halted" else _find_end_ms(task, epoch, default=time_ms)
        if time_ms >= end_ms + kept_ms:
            yield number


def list_idle(task: Task) -> Iterator[int]:
    """Epochs that no lease names any more and no round needs: their key goes when its time comes, or has just gone."""
    if task.epochs is UNSET:
        return
    needed = {member.epoch for round_ in task.rounds() for member in round_.members.values()}
    yield from (n for n, epoch in task.epochs.held.items() if n not in needed and epoch.retired_ms is not None)


def waits_for_time(task: Task) -> bool:
    """Whether the key of an epoch may go by the passing of time alone."""
    return task.epochs is not UNSET and any(epoch.retired_ms is not None for epoch in task.epochs.held.values())


def _find_end_ms(task: Task, epoch: Epoch, *, default: int) -> int:
    """Until when an update under this epoch may come; `default` while it is the newest."""
    if epoch.retired_ms is None:
        return default
    return epoch.retired_ms + task.created.policy.lease_ms + GRACE_MS
