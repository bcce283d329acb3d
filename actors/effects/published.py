"""The records of `published`: written in the transaction of the batch that publishes, completed after a crash (law 5).

They are a pure function of the journal of the actor that writes them, signed with its key.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from actors.keys import RoleKey
from schemas.canonical import MalformedError
from schemas.events import DriftEnded, DriftFound, JournalEvent, ModelPublished
from schemas.journal import Decision, JournalPosition
from schemas.published import (
    STEPS,
    Head,
    describe_drift,
    describe_step,
    describe_version,
    is_announced,
    is_vouched_for,
    parse_checkpoint,
    sign_statement,
)
from schemas.topics import PUBLISHED, ROLLOUTS, ROUNDS
from streams.log import Draft, EventLog, Record, TopicPartition, scan
from streams.skipped import Skipped

# Journal and `published` may have leaders with clocks of their own.
CLOCKS_DIFFER_MS_MAX = 3_600_000

# What is announced of an event that was decided at this log time, and stands in a batch with this head.
Describe = Callable[[Any, int, Head], dict[str, Any]]


@dataclass(slots=True)
class Statements:
    """What an actor says in `published` of the events of these kinds, in the order of its journal."""

    topic: str
    partition: int
    kinds: tuple[type, ...]
    describe: Describe
    _seq: int = -1
    _used: Counter[str] = field(default_factory=Counter)

    def has(self, event: JournalEvent) -> bool:
        """Whether an event is one that is announced."""
        return isinstance(event, self.kinds) and is_announced(event)

    def make(self, event: JournalEvent, at: JournalPosition, *, time_ms: int) -> dict[str, Any]:
        """The statement of one event; `at` is where the journal's chain stands after the batch that holds it."""
        # The head ties what is public to the journal: whoever has kept one can tell that history was rewritten.
        head = Head(topic=self.topic, partition=self.partition, seq=at.seq, head=at.head.hex())
        statement = self.describe(event, time_ms, head)
        if at.seq != self._seq:
            self._seq, self._used = at.seq, Counter()
        name = str(statement["id"])
        self._used[name] += 1
        # An id is said once, and one batch may say the same of a version twice.
        more = self._used[name] - 1
        return {**statement, "id": f"{name}-{more}"} if more else statement

    def index(self, event: JournalEvent, at: JournalPosition, *, time_ms: int) -> dict[str, dict[str, Any]]:
        """The same under its id, for who compares them."""
        statement = self.make(event, at, time_ms=time_ms)
        return {statement["id"]: statement}


def state_versions(partition: int) -> Statements:
    """What the aggregator says: each version, and where its answers have crossed a bound of drift."""
    kinds = (ModelPublished, DriftFound, DriftEnded)
    return Statements(ROUNDS.name, partition, kinds, lambda e, ms, head: _describe_round(e, ms, head=head))


def _describe_round(event: Any, time_ms: int, *, head: Head) -> dict[str, Any]:
    describe = describe_version if isinstance(event, ModelPublished) else describe_drift
    return describe(event, time_ms, head=head)


def state_steps(partition: int) -> Statements:
    """What the rollout says: each step that its devices, and whoever serves versions, go by."""
    return Statements(ROLLOUTS.name, partition, tuple(STEPS), lambda e, ms, head: describe_step(e, ms, head=head))


class Published:
    """The public records of one partition that one actor writes."""

    def __init__(self, log: EventLog, statements: Statements, *, key: RoleKey) -> None:
        self._log, self._at, self._signer = log, TopicPartition(PUBLISHED.name, statements.partition), key.signer
        self._trust, self._statements = key.trust(), statements
        self._replayed: list[tuple[JournalEvent, JournalPosition, int]] = []
        self._skipped = Skipped()

    def announces(self, event: JournalEvent) -> bool:
        """Whether an event is one that is announced."""
        return self._statements.has(event)

    def announce(self, event: JournalEvent, at: JournalPosition, *, time_ms: int) -> Draft:
        """The record of one event; `at` is where the journal's chain stands after the batch that holds it."""
        return self._sign(self._statements.make(event, at, time_ms=time_ms))

    def _sign(self, statement: dict[str, Any]) -> Draft:
        value = sign_statement(statement, self._signer.key, certificate=self._signer.certificate)
        return Draft(**self._at._asdict(), value=value, key=str(statement["subject"]).encode())

    def remember(self, decision: Decision, at: JournalPosition) -> None:
        """Take note of what a decision that is read back has announced: `published` must hold it."""
        self._replayed += [(event, at, decision.time_ms) for event in decision.events if self.announces(event)]

    def find_missing(self, *, since_ms: int | None) -> list[Draft]:
        """Records of what replay has met and `published` does not hold. Raises ReadersHeldBack."""
        replayed, self._replayed = self._replayed, []
        if not replayed:
            return []
        start = None if since_ms is None else self._log.first_since(self._at, since_ms - CLOCKS_DIFFER_MS_MAX)
        # Also what a stranger's open transaction still hides: it would be announced a second time.
        end = self._log.find_written_end(self._at)
        records = scan(self._log, self._at, start=start, end=end, gives_up=True)
        there = {announced for record in records if (announced := self._find_id(record))}
        said = (self._statements.make(event, at, time_ms=time_ms) for event, at, time_ms in replayed)
        return [self._sign(statement) for statement in said if statement["id"] not in there]

    def _find_id(self, record: Record) -> str | None:
        """The id of what was announced in a record; None for junk, and for what a stranger announced."""
        try:
            given = parse_checkpoint(record.value or b"")
        except MalformedError as error:
            self._skipped.note(record, str(error))
            return None
        if is_vouched_for(given, self._trust, at_ms=record.time_ms):
            return given.id
        # An announcement of somebody else's must not keep ours from being made.
        self._skipped.note(record, "signed by nobody that the operator has certified")
        return None
