"""Which models the aggregator keeps beyond the policy's window, because a rollout needs them.

It learns it from the rollout's journal, and from the operator's orders, which pass through it: by what it has noted of
both the rollout knows, at the same place of the aggregator's journal, which models are there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from msgspec import UNSET, UnsetType

from schemas.events import (
    CandidateStaged,
    KeepsModels,
    ModelPublished,
    Promoted,
    RolledBack,
    RolloutOrdered,
    TaskCreated,
)
from schemas.identifiers import BodyRef

Claim = KeepsModels | RolloutOrdered


@dataclass(slots=True)
class Held:
    """The versions that a rollout needs, with their models; `let_go` has those that the newest change set free.

    `ordered` is what the operator has ordered last and the rollout has not promoted yet; `earlier`: those before it.
    """

    models: dict[int, BodyRef] = field(default_factory=dict)
    candidate: int | None = None
    promoted: int | None = None
    previous: int | None = None
    ordered: int | None = None
    orders: int = 0
    let_go: dict[int, BodyRef] = field(default_factory=dict)
    earlier: list[int] | UnsetType = UNSET

    def is_heard(self, fact: Claim, window: Mapping[int, ModelPublished]) -> bool:
        """Whether a fact is noted: an order once, a candidate only while its model is there, all else of a rollout."""
        if isinstance(fact, RolloutOrdered):
            return fact.number > self.orders
        return not isinstance(fact, CandidateStaged) or fact.version in window or fact.version in self.models

    def change(self, fact: Claim, window: Mapping[int, ModelPublished]) -> None:
        """Keep what a fact asks for, and let go of what nobody needs any more."""
        match fact:
            case RolloutOrdered():
                self.orders = fact.number
                # The rollout decides on it later, and may find its model here then: one order behind the other, because
                # what the first promotes is what a rollback of the second leads to.
                if fact.action == "promote" and fact.version != self.ordered:
                    self._await([*self._list_awaited(), *([] if fact.version is None else [fact.version])])
            case CandidateStaged():
                self.candidate = fact.version
            case Promoted():
                self.candidate, awaited = None, self._list_awaited()
                behind = awaited.index(fact.version) + 1 if fact.version in awaited else 0
                self._await(awaited[behind:])
                self.previous, self.promoted = fact.previous, fact.version
            case RolledBack() if fact.version == self.candidate:
                self.candidate = None
            case RolledBack() if fact.version == self.promoted:
                self.promoted, self.previous = fact.to, None
        claimed = (self.candidate, self.promoted, self.previous, self.ordered, *self._list_awaited())
        wanted = sorted({version for version in claimed if version is not None})
        known = {**{version: window[version].model for version in wanted if version in window}, **self.models}
        self.let_go = {version: model for version, model in self.models.items() if version not in wanted}
        self.models = {version: known[version] for version in wanted if version in known}

    def _list_awaited(self) -> list[int]:
        """What was ordered and not promoted yet, in turn, of all that is there: the rest is refused."""
        newest = [] if self.ordered is None else [self.ordered]
        earlier = [] if self.earlier is UNSET else self.earlier
        return [version for version in (*earlier, *newest) if version in self.models]

    def _await(self, ordered: list[int]) -> None:
        self.ordered, self.earlier = ordered[-1] if ordered else None, ordered[:-1] or UNSET


class Keeper(Protocol):
    """A task as the aggregator has it: what it published of late, and what a rollout holds of it."""

    created: TaskCreated
    version: int
    published: dict[int, ModelPublished]
    held: Held | UnsetType


def find_window(task: Keeper) -> dict[int, ModelPublished]:
    """The newest versions, whose models are there whatever becomes of them."""
    oldest = task.version - task.created.policy.retention.models_kept + 1
    return {number: published for number, published in task.published.items() if number >= oldest}


def hold(task: Keeper, fact: Claim) -> None:
    """Keep the models that a rollout needs beyond the window, and no longer than it does."""
    assert task.held is not UNSET
    task.held.change(fact, find_window(task))


def is_held(task: Keeper, version: int) -> bool:
    """Whether a rollout needs the model of a version."""
    return task.held is not UNSET and version in task.held.models


def list_let_go(task: Keeper) -> list[BodyRef]:
    """Models that only a rollout has kept, and that it needs no more."""
    every, window = task.created.policy.retention.milestone_every, find_window(task)
    gone = {} if task.held is UNSET else task.held.let_go
    return [model for n, model in gone.items() if n not in window and not (every and n % every == 0)]
