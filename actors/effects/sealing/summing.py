"""Partial sums of a sealed round: what a shard worker seals, and its aggregator opens."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from msgspec import UNSET

from actors.effects.sealing.epoch_keys import EpochKeys
from schemas.events import TaskCreated, UpdateAdmitted
from schemas.policy.metrics import MetricSums
from schemas.receipts.members import compute_members_root
from schemas.sealing.partials import PartialBinding, open_partial, seal_partial


@dataclass(frozen=True, slots=True)
class SealedReport:
    """What one member has reported inside its body, and with which weight: in memory alone."""

    metrics: tuple[int, ...]
    samples: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Summed:
    """The members of one round whose sum it is, all of them sealed."""

    created: TaskCreated
    round_id: int
    members: Collection[UpdateAdmitted]

    def bind(self) -> PartialBinding:
        """What their sum is sealed for: the newest of their epochs lives longest."""
        return PartialBinding(
            deployment=self.created.deployment,
            task=self.created.task,
            epoch=max(member.epoch for member in self.members if member.epoch is not UNSET),
            round=self.round_id,
            members_root=compute_members_root(self.members),
        )


def seal_sum(summed: Summed, total: bytes, *, metrics: MetricSums | None, keys: EpochKeys) -> bytes:
    """A sum and its metrics, as they are stored. Raises EpochKeyMissing."""
    binding = summed.bind()
    return seal_partial(total, metrics, binding=binding, secret=keys.require(summed.created, binding.epoch))


def open_sum(summed: Summed, data: bytes, *, keys: EpochKeys) -> tuple[bytes, MetricSums | None]:
    """Both again. Raises BodyError, EpochKeyMissing."""
    binding = summed.bind()
    return open_partial(data, binding, secret=keys.require(summed.created, binding.epoch))
