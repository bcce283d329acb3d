"""What a helper knows of the tasks of one partition, folded from the aggregator's journal and what the operator wrote.

It is a fold of its own, so that a helper rests on nothing that an aggregator computes: the rules by which it judges a
round are in `helper`. All of it can be lost and read again.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from msgspec import UnsetType

from schemas.events import (
    DeviceEnrolled,
    EpochDestroyed,
    EpochOpened,
    JournalEvent,
    ModelPublished,
    Noticed,
    RoundAbandoned,
    RoundCharged,
    RoundProposed,
    TaskCreated,
    TaskHalted,
    UpdateAdmitted,
)
from schemas.policy import count_epoch_versions
from schemas.topics import population_of

Enrolled = dict[str, set[str]]  # the subjects of each device, of which it has one at a time


@dataclass(frozen=True, slots=True)
class Member:
    """One admission, and whether its weight is that of its staleness at that moment, by the task's own table."""

    admitted: UpdateAdmitted
    is_weighted: bool


@dataclass(slots=True)
class HeardRound:
    """A round that is neither published nor abandoned; `proposed` once it is full."""

    members: list[Member] = field(default_factory=list)
    proposed: RoundProposed | None = None
    is_charged: bool = False  # its release is paid for


@dataclass(slots=True)
class HeardTask:
    """One masked task. `models` has the digest of each version that an update may still come from.

    `disputed`: other models that the journal has had under a number that was given.
    """

    created: TaskCreated
    version: int = -1
    models: dict[int, bytes] = field(default_factory=dict)
    disputed: set[tuple[int, bytes]] = field(default_factory=set)
    rounds: dict[int, HeardRound] = field(default_factory=dict)
    epochs: dict[int, int] = field(default_factory=dict)  # those not destroyed: the version at which each began
    next_epoch: int = 0
    over: set[int] = field(default_factory=set)  # epochs whose keys nobody needs any more
    is_halted: bool = False
    enrolled: Enrolled | None = None  # in its population, by a pinned registrar; None where none is pinned

    def is_enrolled(self, device: str, subject: str | UnsetType) -> bool:
        """Whether a pinned registrar has ever enrolled the device as this subject, or none is pinned."""
        return self.enrolled is None or subject in self.enrolled.get(device, ())

    def waits_for(self, round_: HeardRound) -> bool:
        """Whether a full round has to be paid for first: what is not in the ledger must not be released."""
        return self.created.policy.privacy is not None and not round_.is_charged

    def count_pending(self) -> int:
        """How many rounds are proposed and not over."""
        return sum(round_.proposed is not None for round_ in self.rounds.values())

    def wants_key(self) -> bool:
        """Whether leases to come need another epoch."""
        if self.is_halted:
            return False
        # One whose key was lost is not there any more, and needs another at once.
        begun = self.epochs.get(self.next_epoch - 1)
        return begun is None or self.version - begun >= count_epoch_versions(self.created.policy)


@dataclass(slots=True)
class Heard:
    """All masked tasks of one partition; `enrolled` by population, where a registrar is pinned."""

    tasks: dict[str, HeardTask] = field(default_factory=dict)
    enrolled: dict[str, Enrolled] | None = None

    def begin(self, created: TaskCreated) -> None:
        """A task that is there from now on."""
        if created.task not in self.tasks:
            mine = None if self.enrolled is None else self.enrolled.setdefault(population_of(created.task), {})
            self.tasks[created.task] = HeardTask(created, enrolled=mine)


def fold(heard: Heard, event: JournalEvent) -> None:
    """Take note of one event of the aggregator's journal."""
    match event:
        case Noticed(fact=TaskCreated() as created) if created.policy.is_masked:
            heard.begin(created)
            return
    said = event.fact if isinstance(event, Noticed) else event
    if (task := heard.tasks.get(getattr(said, "task", ""))) is not None:
        _fold_task(task, event)


def fold_enrolment(heard: Heard, event: JournalEvent) -> None:
    """Take note of one event of the journal of a pinned registrar."""
    # Who is revoked later stays somebody: the helper asks whether members are people, and not whether they may come.
    if isinstance(event, DeviceEnrolled) and heard.enrolled is not None:
        heard.enrolled.setdefault(event.population, {}).setdefault(event.device, set()).add(event.subject)


def _fold_task(task: HeardTask, event: JournalEvent) -> None:
    match event:
        case Noticed(fact=RoundCharged() as charged) if charged.round in task.rounds:
            task.rounds[charged.round].is_charged = True
        case UpdateAdmitted():
            _admit(task, event)
        case RoundProposed():
            task.rounds.setdefault(event.round, HeardRound()).proposed = event
        case ModelPublished():
            _publish(task, event)
        case RoundAbandoned():
            task.rounds.pop(event.round, None)
        case EpochOpened():
            task.epochs[event.epoch], task.next_epoch = task.version, event.epoch + 1
        case EpochDestroyed():
            task.epochs.pop(event.epoch, None)
            task.over.add(event.epoch)
        case TaskHalted():
            task.is_halted = True


def _admit(task: HeardTask, admitted: UpdateAdmitted) -> None:
    staleness, weights = task.version + task.count_pending() - admitted.version, task.created.weights
    is_weighted = 0 <= staleness < len(weights) and admitted.weight == weights[staleness]
    task.rounds.setdefault(admitted.round, HeardRound()).members.append(Member(admitted, is_weighted))


def _publish(task: HeardTask, published: ModelPublished) -> None:
    # The first said of a version is the one: another model under its number would be one for somebody in particular.
    if task.models.get(published.version, published.model.sha256) != published.model.sha256:
        task.disputed.add((published.version, published.model.sha256))
    task.version = published.version
    task.models.setdefault(published.version, published.model.sha256)
    # No lease leads further back than the table of weights.
    oldest = published.version - len(task.created.weights)
    task.models = {version: digest for version, digest in task.models.items() if version >= oldest}
    if published.round is not None:
        task.rounds.pop(published.round, None)
