"""The records of `published`: written in the transaction of the batch that publishes, completed after a crash (law 5).

`published` is a pure function of the aggregator's journal, signed with the aggregator's key.
"""

from __future__ import annotations

from actors.keys import RoleKey
from schemas.canonical import MalformedError
from schemas.events import ModelPublished
from schemas.journal import Decision, JournalPosition
from schemas.published import Head, describe_version, is_vouched_for, parse_checkpoint, sign_statement, version_id
from schemas.topics import PUBLISHED, ROUNDS
from streams.log import Draft, EventLog, Record, TopicPartition, scan
from streams.skipped import Skipped

# Journal and `published` may have leaders with clocks of their own.
CLOCKS_DIFFER_MS_MAX = 3_600_000


class Published:
    """The public records of one partition."""

    def __init__(self, log: EventLog, partition: int, *, key: RoleKey) -> None:
        self._log, self._at, self._signer = log, TopicPartition(PUBLISHED.name, partition), key.signer
        self._trust = key.trust()
        self._replayed: dict[str, tuple[ModelPublished, int, JournalPosition]] = {}
        self._skipped = Skipped()

    def announce(self, event: ModelPublished, at: JournalPosition, *, time_ms: int) -> Draft:
        """The record of one version; `at` is where the journal's chain stands after the batch that published it."""
        # The head ties what is public to the journal: whoever has kept one can tell that history was rewritten.
        head = Head(topic=ROUNDS.name, partition=self._at.partition, seq=at.seq, head=at.head.hex())
        statement = describe_version(event, time_ms, head=head)
        value = sign_statement(statement, self._signer.key, certificate=self._signer.certificate)
        return Draft(**self._at._asdict(), value=value, key=event.task.encode())

    def remember(self, decision: Decision, at: JournalPosition) -> None:
        """Take note of the versions in a decision that is read back: `published` must hold them."""
        for event in decision.events:
            if isinstance(event, ModelPublished):
                self._replayed[version_id(event)] = (event, decision.time_ms, at)

    def find_missing(self, *, since_ms: int | None) -> list[Draft]:
        """Records of versions that replay has met and `published` does not hold. Raises ReadersHeldBack."""
        replayed, self._replayed = self._replayed, {}
        if not replayed:
            return []
        start = None if since_ms is None else self._log.first_since(self._at, since_ms - CLOCKS_DIFFER_MS_MAX)
        # Also what a stranger's open transaction still hides: it would be announced a second time.
        end = self._log.find_written_end(self._at)
        records = scan(self._log, self._at, start=start, end=end, gives_up=True)
        there = {announced for record in records if (announced := self._find_id(record))}
        return [
            self.announce(event, at, time_ms=time_ms)
            for event_id, (event, time_ms, at) in replayed.items()
            if event_id not in there
        ]

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
