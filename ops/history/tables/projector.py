"""The projector: a read model whose rows and positions are stored together, so that each event counts exactly once.

It keeps no state that it could lose: what it has written says where it goes on, whatever dies.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from actors.wiring import ROLES
from ops.history.projections import read_evaluation, read_task_event
from ops.history.tables.facts import FACTS, Columns, NoticedFact, PassedOver, Row, Submission
from schemas.canonical import MalformedError, decode
from schemas.certificates import Trust
from schemas.errors import EXIT_LOST, FedlogError
from schemas.events import (
    JournalEvent,
    ModelPublished,
    Noticed,
    TaskCreated,
    UpdateSubmitted,
)
from schemas.identifiers import TaskId
from schemas.journal import JournalPosition, JournalRecord, WriterClaimed, open_record
from schemas.leases import read_lease
from schemas.signing import parse_signed
from schemas.topics import EVALUATIONS, TASKS, UPDATES
from streams.journals import JournalReader
from streams.log import EventLog, Record, TopicPartition
from streams.packing import unpack

_JOURNALS = tuple(role.journal for role in ROLES.values())
TOPICS = (TASKS.name, *_JOURNALS, EVALUATIONS.name, UPDATES.name)


class HistoryGap(FedlogError):
    """The log no longer holds what this history has not read yet."""

    exit_code = EXIT_LOST
    code = "history_gap"


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a partition is in the tables: the next offset, the time of the last record, for a journal its chain."""

    offset: int
    time_ms: int
    chain: JournalPosition | None = None


class Sink(Protocol):
    """Where tables are kept. Rows and marks of one `write` are there together or not at all."""

    def read_marks(self) -> dict[TopicPartition, Mark]:
        """The marks that stand there."""
        ...

    def list_private(self) -> set[TaskId]:
        """The tasks with privacy among the rows."""
        ...

    def write(self, facts: Mapping[str, Sequence[Columns]], marks: Mapping[TopicPartition, Mark]) -> None:
        """Add rows to tables of facts, by the tables' names, and move the marks."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewer:
    """For whom a history is built: whose word counts, in which deployment, and whether they are the operator."""

    operator: bytes | None
    deployment: bytes | None
    is_operator: bool = False

    @property
    def trust(self) -> Trust | None:
        """What signatures are checked against; None: none are."""
        return None if self.operator is None else Trust(self.operator, self.deployment)


@dataclass(slots=True)
class _Pending:
    # By the kind of event, and whether its secrets are left out: places, and the events there.
    facts: defaultdict[tuple[type, bool], tuple[list[Row], list[Any]]] = field(
        default_factory=lambda: defaultdict(lambda: ([], []))
    )
    marks: dict[TopicPartition, Mark] = field(default_factory=dict)
    count: int = 0

    def make_columns(self) -> dict[str, list[Columns]]:
        """What is waiting, by the name of its table."""
        found = defaultdict[str, list[Columns]](list)
        for (kind, is_secret), (places, events) in self.facts.items():
            found[FACTS[kind].name].append(FACTS[kind].make_columns(places, events, is_secret=is_secret))
        return found


class Projector:
    """Turns records into rows; `flush` stores them. A `Projection`, fed by `ops.history.following`."""

    def __init__(self, sink: Sink, viewer: Viewer, *, topics: Sequence[str] = TOPICS) -> None:
        self.topics = topics
        self._sink, self._viewer, self._trust = sink, viewer, viewer.trust
        marks = sink.read_marks()
        # What is stored says where to go on; nothing else is remembered that a crash could lose.
        self.positions = {at: mark.offset for at, mark in marks.items()}
        self._marks = marks
        self._private = sink.list_private()
        self._pending = _Pending()
        self._journals = {
            at: JournalReader(at, trust=self._trust, position=mark.chain)
            for at, mark in marks.items()
            if at.topic in _JOURNALS
        }

    @property
    def waiting(self) -> int:
        """Rows that are not stored yet."""
        return self._pending.count

    @property
    def has_releases(self) -> bool:
        """Whether a release is among them."""
        return any(kind is ModelPublished for kind, _ in self._pending.facts)

    def check_gaps(self, log: EventLog) -> None:
        """Raises HistoryGap where retention has taken what comes next. A history that begins, begins where it can."""
        places = [at for at in self.positions if at.partition < log.partitions]
        for at, bounds in log.list_bounds(places).items():
            if not bounds.beginning <= self.positions[at] <= bounds.end:
                raise HistoryGap(
                    f"{at} goes from {bounds.beginning} to {bounds.end}, and this history stands at "
                    f"{self.positions[at]}: records between are gone, or it is another log's. "
                    "`fedlog history rebuild` builds it anew from what the log holds."
                )

    def apply(self, record: Record) -> None:
        """Turn one record into rows. Raises JournalBroken, which names the place."""
        if record.topic in _JOURNALS:
            chain = self._apply_journal_record(record)
        else:
            chain = None
            for message in unpack(record):
                self._apply_plain(message)
        # Only now, so that a record that could not be followed is offered again.
        self._note(record.at, Mark(record.offset + 1, record.time_ms, chain))

    def pass_on(self, positions: Mapping[TopicPartition, int]) -> None:
        """Note how far a reader has come: behind the last record of a journal stands a marker, which is none.

        Who looks again while nothing is new has nothing to read then.
        """
        for at, offset in positions.items():
            if (mark := self._marks.get(at)) is not None and offset > mark.offset:
                self._note(at, replace(mark, offset=offset))

    def flush(self) -> None:
        """Store what is waiting: rows and positions in one transaction."""
        # Marks without rows count too: junk that is read again at every start is a start that never ends.
        if self._pending.marks:
            self._sink.write(self._pending.make_columns(), self._pending.marks)
            self._pending = _Pending()

    def _note(self, at: TopicPartition, mark: Mark) -> None:
        self._marks[at] = self._pending.marks[at] = mark
        self.positions[at] = mark.offset

    def _apply_journal_record(self, record: Record) -> JournalPosition:
        journal = self._journals.get(record.at)
        if journal is None:
            journal = self._journals[record.at] = JournalReader(record.at, trust=self._trust)
        # The reader counts what it passes over, and says no more: which it was shows in what has changed.
        zombies, strangers, claim = journal.zombies, journal.strangers, journal.position.claim
        batch = journal.follow(record)
        if batch is not None:
            number, here, time_ms = 0, (*record.at, record.offset), record.time_ms
            for decision in batch.decisions:
                input_at = (decision.topic, decision.offset, decision.message, decision.time_ms, time_ms)
                for event in decision.events:
                    self._add_event((*here, number, *input_at), event)
                    number += 1
        elif journal.zombies > zombies:
            self._add(_place(record), PassedOver(reason="zombie", record_bytes=len(record.value or b"")))
        elif journal.strangers > strangers:
            self._add(_place(record), PassedOver(reason="stranger", record_bytes=len(record.value or b"")))
        else:
            self._add(_place(record), _open_claim(record, is_new=journal.position.claim != claim))
        return journal.position

    def _add_event(self, place: Row, event: JournalEvent) -> None:
        if isinstance(event, Noticed):
            # The aggregator notices a task before anything of it, so that no secret comes before this.
            if isinstance(event.fact, TaskCreated) and event.fact.policy.privacy is not None:
                self._private.add(event.fact.task)
            self._add(place, NoticedFact(task=getattr(event.fact, "task", None), event=type(event.fact).__name__))
        else:
            self._add(place, event)

    def _apply_plain(self, record: Record) -> None:
        # Each topic has its own author, and its own proof of who that is.
        match record.topic:
            case TASKS.name:
                event: object | None = read_task_event(
                    record, self._viewer.operator, deployment=self._viewer.deployment
                )
            case EVALUATIONS.name:
                event = read_evaluation(record, self._trust)
            case _:
                event = _read_submission(record)
        # Others may write to these topics, and what nobody vouches for is no event.
        if event is not None:
            self._add(_place(record), event)

    def _add(self, place: Row, event: object) -> None:
        # Whoever holds the operator's public key alone may still read the journals of a private task. Devices' records
        # come from another topic, perhaps before anybody has read that their task is one.
        is_private = isinstance(event, Submission) or getattr(event, "task", None) in self._private
        is_secret = is_private and not self._viewer.is_operator
        places, events = self._pending.facts[type(event), is_secret]
        places.append(place)
        events.append(event)
        self._pending.count += 1


def _place(record: Record) -> Row:
    """The place of a fact that is a record of its own, or a message in one, and decides no input."""
    return (*record.at, record.offset, record.message, None, None, None, record.time_ms, record.time_ms)


def _open_claim(record: Record, *, is_new: bool) -> JournalRecord:
    """The record that has moved a chain without deciding anything: a claim, or the operator's word."""
    content = open_record(record.value or b"")
    assert isinstance(content, WriterClaimed) is is_new
    return content


def _read_submission(record: Record) -> Submission | None:
    """An update as it stands there, whoever sent it: the aggregator's decision says whether it counts."""
    data = record.value or b""
    try:
        update = decode(parse_signed(data).payload, UpdateSubmitted)
        lease = read_lease(update.sealed)
    except MalformedError:
        return None
    body = update.body
    # The bytes of an inline body stay in the log: a table of vectors would answer nobody.
    return Submission(
        task=lease.task,
        lease=lease.lease,
        device=lease.device,
        version=lease.version,
        samples=update.samples,
        record_bytes=len(data),
        body=body,
    )
