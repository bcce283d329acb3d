"""Trainings of one process made together, ahead of the devices that are about to ask for them.

A device takes its result where it would have trained, and everything else of its lease is as ever: what was made for
another version or seed is not taken, and a device without a result trains alone, under its own deadline.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog

from client_agent.learning.layout import Model
from client_agent.learning.learner import Context
from client_agent.learning.opening import DataTrainer
from client_agent.learning.trainer import Coming, Trained, Trainer
from client_agent.running.watch import Deadline, TookTooLong, Watch

# What devices have not fetched by then, because they have died or given up since, is dropped.
KEPT_MAX = 1_000
# What goes wrong in here costs all of its devices, so that it must leave each of them time to train alone.
SHARE_OF_LEASE = 0.5
PLACE = "trainings together"

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a device is about to ask for."""

    data: DataTrainer
    model: Model
    context: Context


@dataclass(slots=True)
class Together:
    """The results that wait for the devices of one process. `watch` ends what does not end."""

    watch: Watch | None = None
    is_off: bool = False
    _made: dict[str, tuple[_Asked, Trained | None]] = field(default_factory=dict)

    def describe_wait(self) -> str:
        """What is taking long; empty where nothing is."""
        return "" if self.watch is None else self.watch.describe_wait()

    def train_ahead(self, coming: Sequence[Coming]) -> None:
        """Train for devices that will ask for it under their leases; those that cannot be are left to train alone."""
        if self.is_off:
            return
        alike: dict[tuple[int, int, int], list[_Asked]] = {}
        for one in coming:
            if isinstance(one.trainer, TogetherTrainer) and one.context.lease not in self._made:
                asked = _Asked(one.trainer.data, one.model, one.context)
                alike.setdefault((*_name_memory(one.model), one.context.version), []).append(asked)
        for group in alike.values():
            for one_asked, trained in zip(group, self._train(group), strict=True):
                self._made[one_asked.context.lease] = (one_asked, trained)
        while len(self._made) > KEPT_MAX:
            del self._made[next(iter(self._made))]

    def take(self, model: Model, context: Context) -> Trained | None:
        """What was made for this lease; None where the device has to train alone."""
        one, trained = self._made.pop(context.lease, (None, None))
        if one is None or _name_memory(one.model) != _name_memory(model):
            return None
        same = (one.context.seed, one.context.version) == (context.seed, context.version)
        return trained if same and not context.state else None

    def has(self, lease: str) -> bool:
        """Whether the training of a lease was made, or found to be one to do alone."""
        return lease in self._made

    def _train(self, group: Sequence[_Asked]) -> list[Trained | None]:
        nothing: list[Trained | None] = [None] * len(group)
        learner, members = group[0].data.learner, [(one.data.data, one.context) for one in group]
        deadline = _until_half_way(len(group), left_s=min(one.context.left_s for one in group))
        try:
            return self._watch(lambda: learner.train_together(group[0].model, members), deadline)
        # What hangs here hangs again; each device is now watched by itself, and says where.
        except TookTooLong as error:
            self.is_off = True
            logger.warning("trained_one_by_one", reason=str(error))
            return nothing

    def _watch(self, function: Callable[[], list[Trained | None]], deadline: Deadline) -> list[Trained | None]:
        return function() if self.watch is None else self.watch.watch(function, deadline)


@dataclass(frozen=True, slots=True)
class TogetherTrainer:
    """A trainer that takes what was made for it; `alone` trains where nothing was."""

    data: DataTrainer
    alone: Trainer
    together: Together

    @property
    def sample_count(self) -> int:
        """How many examples it has."""
        return self.alone.sample_count

    def train(self, model: Model, context: Context) -> Trained:
        """The same as alone, or as near to it as rounding is. Raises what training alone raises."""
        # One that nobody foresaw is a group of its own: its result must not depend on that.
        if not self.together.has(context.lease) and not self.together.is_off:
            self.together.train_ahead([Coming(self, model, context)])
        trained = self.together.take(model, context)
        return self.alone.train(model, context) if trained is None else trained


def _name_memory(model: Model) -> tuple[int, int]:
    """Where a version lies in this process, which holds it once; whoever is kept waiting keeps it alive."""
    # A device may have been given a slice, which is another object each time.
    vector = model.vector
    return id(vector if vector.base is None else vector.base), vector.size


def _until_half_way(count: int, *, left_s: float) -> Deadline:
    return Deadline(
        doing="training together",
        label=f"{count} devices",
        place=PLACE,
        limit_s=max(0.0, left_s * SHARE_OF_LEASE),
        within=f"within {SHARE_OF_LEASE:.0%} of its lease",
        advice="They train one by one from now on",
    )
