"""What the log says of the versions of all tasks: how each was made, scored, paid for, and what its rollout decided.

A fold over `tasks`, `ledger`, `evaluations` and `published`. Nothing else is read: no update, no device, no lease, so
that nothing of them can get into another system by way of this.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from actors.deciders.scores import Final, Rule, Scores
from ops.history.projections import TaskViews, read_evaluation
from ops.history.task_view import TaskView
from schemas.announcements.forms import CanaryStaged, VersionPromoted, VersionPublished, VersionRolledBack
from schemas.announcements.reading import Announcement, Told, read_announcement
from schemas.canonical import MalformedError
from schemas.certificates import Trust
from schemas.events import ModelPublished, RoundCharged, TaskCreated, VersionEvaluated
from schemas.identifiers import Cohort, TaskId, Version
from schemas.topics import EVALUATIONS, LEDGER, PUBLISHED, TASKS, partition_of
from streams.log import Record, TopicPartition
from streams.skipped import Skipped


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawal:
    """A version was rolled back."""

    reason: str
    to: Version | None


@dataclass(slots=True)
class Course:
    """What became of one task: its versions, what evaluators said of them, and where its rollout stands."""

    task: TaskId
    published: dict[Version, Announcement] = field(default_factory=dict)
    said: dict[Version, list[VersionEvaluated]] = field(default_factory=dict)
    # When a version was scored last, so that the same score is written under the same time again.
    said_ms: dict[Version, int] = field(default_factory=dict)
    candidate: Version | None = None
    promoted: Version | None = None
    withdrawn: dict[Version, Withdrawal] = field(default_factory=dict)

    def evolve(self, announcement: Announcement) -> None:
        """Fold what is announced of the task."""
        match announcement.data:
            case VersionPublished(version=version):
                self.published[version] = announcement
            case CanaryStaged(version=version):
                self.candidate = version
            case VersionPromoted(version=version):
                self.promoted = version
                self.candidate = None if self.candidate == version else self.candidate
                # Whoever promotes what was rolled back before has taken that back.
                self.withdrawn.pop(version, None)
            case VersionRolledBack(version=version, to=to, reason=reason):
                self.withdrawn[version] = Withdrawal(reason=reason, to=to)
                self.candidate = None if self.candidate == version else self.candidate
                self.promoted = to


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One version with all that is known of it. `charge` is the last up to its round; None where nothing was charged.

    `scores` are final, by cohort; the empty one is all together.
    """

    created: TaskCreated
    announcement: Announcement
    data: VersionPublished
    charge: RoundCharged | None
    scores: Mapping[Cohort, Final]
    scored_ms: int
    view: TaskView

    @property
    def id(self) -> str:
        """Its name in the log, which its announcement has."""
        return self.announcement.id


class Courses:
    """The course of every task, as a projection; what nobody vouches for is passed over, and counted."""

    topics: Sequence[str] = (TASKS.name, LEDGER.name, EVALUATIONS.name, PUBLISHED.name)

    def __init__(self, *, operator: bytes, deployment: bytes, partitions: int) -> None:
        self.positions: dict[TopicPartition, int] = {}
        self.tasks: dict[TaskId, Course] = {}
        self._news: set[TaskId] = set()
        self.deployment, self._partitions = deployment, partitions
        self._trust, self._skipped = Trust(operator, deployment), Skipped()
        self._views = TaskViews((TASKS.name, LEDGER.name), operator=operator, deployment=deployment)
        self._told: dict[tuple[int, str], Told] = {}

    def apply(self, record: Record) -> None:
        """Fold one record."""
        match record.topic:
            case PUBLISHED.name:
                self._apply_announcement(record)
            case EVALUATIONS.name:
                if (evaluated := read_evaluation(record, self._trust)) is not None:
                    course = self._find(evaluated.task)
                    self._news.add(evaluated.task)
                    course.said.setdefault(evaluated.version, []).append(evaluated)
                    course.said_ms[evaluated.version] = record.time_ms
            case _:
                self._views.apply(record)
                # Records of a journal are of many tasks, and each of them is one of this partition.
                self._news.update(task for task in self.tasks if self._is_home(task, record.partition))
        self.positions[record.at] = record.offset + 1

    def take_news(self) -> list[TaskId]:
        """The tasks of which something was read since the last call."""
        news, self._news = sorted(self._news), set()
        return news

    def list_entries(self, task: TaskId) -> Iterator[Entry]:
        """The versions of which everything is known, the oldest first.

        A measure task has none: its versions are answers, and no models.
        """
        course, view = self._find(task), self._views.view(task)
        if view.created is None or view.created.policy.measure is not None:
            return
        for _, announcement in sorted(course.published.items()):
            if (entry := self._find_entry(course, announcement, view=view)) is not None:
                yield entry
            else:
                # In order, so that a later version of theirs is a later one of ours.
                return

    def _find_entry(self, course: Course, announcement: Announcement, *, view: TaskView) -> Entry | None:
        data, created = announcement.data, view.created
        assert isinstance(data, VersionPublished)
        assert created is not None
        charges = [charge for charge in view.charges if data.round is not None and charge.round <= data.round]
        # The ledger is another topic, which may be read later: what a version cost is never left out.
        is_private = created.policy.privacy is not None and data.round is not None
        if is_private and (not charges or charges[-1].round != data.round):
            return None
        return Entry(
            created=created,
            announcement=announcement,
            data=data,
            charge=charges[-1] if charges else None,
            scores=_settle(course.said.get(data.version, []), created),
            scored_ms=course.said_ms.get(data.version, announcement.time_ms),
            view=_narrow(view, announcement),
        )

    def _apply_announcement(self, record: Record) -> None:
        try:
            found = read_announcement(
                record.value or b"", self._trust, partition=record.partition, at_ms=record.time_ms
            )
        except MalformedError as error:
            self._skipped.note(record, str(error))
            return
        if found is None:
            return
        told = self._told.setdefault((record.partition, found.data.journal.topic), Told())
        if told.has(found):
            self._skipped.note(record, f"{found.id} again, or out of its order: somebody has copied it")
            return
        told.note(found)
        self._find(found.data.task).evolve(found)
        self._news.add(found.data.task)

    def _is_home(self, task: TaskId, partition: int) -> bool:
        return partition_of(task, self._partitions) == partition

    def _find(self, task: TaskId) -> Course:
        return self.tasks.setdefault(task, Course(task))


def _settle(said: Sequence[VersionEvaluated], created: TaskCreated) -> dict[Cohort, Final]:
    """What is final of a version, in all of its metrics."""
    scores, rule = Scores(), Rule.read(created.policy)
    for evaluated in said:
        # Of a decision only some metrics are kept, and whoever looks at a version wants them all.
        wide = replace(rule, kept=frozenset(evaluated.metrics))
        if scores.is_new(evaluated, wide):
            scores.add(evaluated, wide)
    version = said[0].version if said else 0
    finals = {cohort: scores.find_final(version, cohort, rule=rule) for cohort in ("", *scores.list_cohorts(version))}
    return {cohort: final for cohort, final in finals.items() if final is not None}


def _narrow(view: TaskView, announcement: Announcement) -> TaskView:
    """What the files of a version are made from: the task, this version and the charges, and nothing of its devices."""
    data, body = announcement.data, announcement.body
    assert isinstance(data, VersionPublished)
    assert body is not None
    published = ModelPublished(
        task=data.task,
        version=data.version,
        round=data.round,
        model=body,
        moments=None,
        members_root=None if data.members_root is None else bytes.fromhex(data.members_root),
        members=data.members,
    )
    return TaskView(view.task, created=view.created, published={data.version: published}, charges=view.charges)
