"""Read models: folds over the topics that give the same result from any start and at any pace.

`TaskViews` holds what the console shows of every task. `ops.history.following` feeds projections from a log.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Protocol, get_args

from actors.wiring import ROLES
from ops.history.task_view import TaskView, evolve, hear_voice
from schemas.canonical import MalformedError, decode
from schemas.certificates import Trust, parse_certified
from schemas.certificates import read_evaluation as read_certified_evaluation
from schemas.creations import Written, parse_task_event
from schemas.events import (
    CheckinsDeclined,
    DeploymentFounded,
    InputsDropped,
    JournalEvent,
    Noticed,
    PopulationBudgetSet,
    TaskEvent,
    UpdatesDeclined,
    VersionEvaluated,
)
from schemas.identifiers import TaskId
from schemas.topics import EVALUATIONS, ROUNDS, TASKS
from streams.journals import JournalReader
from streams.log import Record, TopicPartition

_JOURNALS = tuple(role.journal for role in ROLES.values())
TOPICS = (TASKS.name, *_JOURNALS, EVALUATIONS.name)


class Projection(Protocol):
    """A fold over some topics that knows how far it has read.

    Records of one partition come in the order of the log, each once; partitions may come in any order.
    """

    @property
    def topics(self) -> Sequence[str]:
        """The topics that it reads."""

    @property
    def positions(self) -> Mapping[TopicPartition, int]:
        """The next offset to apply of each partition read so far; one that is stored with its rows resumes there."""

    def apply(self, record: Record) -> None:
        """Fold one record, and move the position past it."""


def read_task_event(record: Record, operator: bytes | None, *, deployment: bytes | None) -> Written | None:
    """What the operator said of this deployment; None for whatever else stands in `tasks`."""
    said = parse_task_event(record, operator)
    return said if said is not None and deployment in (None, said.deployment) else None


def read_evaluation(record: Record, trust: Trust | None) -> VersionEvaluated | None:
    """What a certified evaluator scored; None for whatever else stands in `evaluations`."""
    data = record.value or b""
    try:
        # A person without the operator's public key sees what stands there, whoever wrote it.
        if trust is None:
            return decode(parse_certified(data).payload, VersionEvaluated)
        return read_certified_evaluation(data, trust, at_ms=record.time_ms)
    except MalformedError:
        return None


class TaskViews:
    """The view of every task. `operator` is the operator's public key; without it no signature is checked.

    `deployment`: what the operator said of any other is nothing here; None where the log has no name yet.

    `budgets` are those in force, by population. `dropped` counts junk by topic, `unknown` what asked for no task that
    exists, by reason.
    """

    def __init__(
        self, topics: Sequence[str] = TOPICS, *, operator: bytes | None = None, deployment: bytes | None = None
    ) -> None:
        self.topics = topics
        self.positions: dict[TopicPartition, int] = {}
        self.tasks: dict[TaskId, TaskView] = {}
        self.budgets: dict[str, PopulationBudgetSet] = {}
        self.dropped: Counter[str] = Counter()
        self.unknown: Counter[str] = Counter()
        self.unreadable = 0
        self._operator, self._deployment = operator, deployment
        self._trust = None if operator is None else Trust(operator, deployment)
        self._journals: dict[TopicPartition, JournalReader] = {}

    @property
    def zombies(self) -> int:
        """Batches of superseded writers, which every reader skips."""
        return sum(journal.zombies for journal in self._journals.values())

    @property
    def strangers(self) -> int:
        """Records in journals that no writer of theirs signed, which every reader passes over."""
        return sum(journal.strangers for journal in self._journals.values())

    def view(self, task: TaskId) -> TaskView:
        """The view of a task; an empty one is made for an unknown name."""
        return self.tasks.setdefault(task, TaskView(task))

    def apply(self, record: Record) -> None:
        """Fold one record. Raises JournalBroken, which names the place."""
        if record.topic in _JOURNALS:
            self._apply_batch(record)
        else:
            self._apply_plain(record)
        # Only now, so that a record that could not be folded is offered again.
        self.positions[record.at] = record.offset + 1

    def _apply_plain(self, record: Record) -> None:
        if record.topic == TASKS.name:
            event: Written | VersionEvaluated | None = read_task_event(
                record, self._operator, deployment=self._deployment
            )
        else:
            event = read_evaluation(record, self._trust)
        if event is None:
            # Others may write to these topics, and what nobody vouches for must not stop the fold.
            self.unreadable += 1
        # A budget of a population is in force once the aggregator has noticed it, and not for having been written.
        elif not isinstance(event, DeploymentFounded | PopulationBudgetSet):
            evolve(self.view(event.task), event, time_ms=record.time_ms)

    def _apply_batch(self, record: Record) -> None:
        # Every journal partition has a chain of its own, and its records may come between those of others.
        journal = self._journals.get(record.at)
        if journal is None:
            journal = self._journals[record.at] = JournalReader(record.at, trust=self._trust)
        batch = journal.follow(record)
        for decision in batch.decisions if batch else ():
            for event in decision.events:
                self._apply_event(record.topic, event, time_ms=decision.time_ms)

    def _apply_event(self, topic: str, event: JournalEvent, *, time_ms: int) -> None:
        match event:
            # Junk names no task, so it is counted for the topic that it came in.
            case InputsDropped():
                self.dropped[event.topic] += event.count
            # Nor is a task named by what asked for one that does not exist: a stranger could make views without end.
            case CheckinsDeclined(task=None, counts=counts) | UpdatesDeclined(task=None, counts=counts):
                self.unknown.update(counts)
            case Noticed(fact=fact):
                # Another's event counts in its own journal; what the aggregator noticed of a task is the exception.
                # It is about no task, and has no view of its own.
                if topic == ROUNDS.name and isinstance(fact, PopulationBudgetSet):
                    self.budgets[fact.population] = fact
                elif topic == ROUNDS.name and isinstance(fact, VersionEvaluated):
                    hear_voice(self.view(fact.task), fact)
                elif topic == ROUNDS.name and isinstance(fact, get_args(TaskEvent)):
                    view = self.view(fact.task)
                    view.noticed = True
                    evolve(view, fact, time_ms=time_ms)
            case _:
                if (task := find_task_of(event)) is not None:
                    evolve(self.view(task), event, time_ms=time_ms)


def find_task_of(event: object) -> TaskId | None:
    """The task that an event is about; None for events about none."""
    found = getattr(event.fact if isinstance(event, Noticed) else event, "task", None)
    return found if isinstance(found, str) else None
