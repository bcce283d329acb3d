"""The records of `published`: written in the transaction of the batch that publishes, completed after a crash (law 5).

`published` is a pure function of the aggregator's journal, signed with the checkpoint key.
"""

from __future__ import annotations

import json

from actors.keys import OperatorKey
from schemas.events import ModelPublished
from schemas.journal import Decision, JournalPosition
from schemas.published import Head, describe_version, sign_statement, version_id
from schemas.topics import PUBLISHED, ROUNDS
from streams.log import Draft, EventLog, TopicPartition, scan

# Journal and `published` may have leaders with clocks of their own.
CLOCKS_DIFFER_MS_MAX = 3_600_000


class Published:
    """The public records of one partition."""

    def __init__(self, log: EventLog, partition: int, *, key: OperatorKey) -> None:
        self._log, self._at, self._key = log, TopicPartition(PUBLISHED.name, partition), key
        self._replayed: dict[str, tuple[ModelPublished, int, JournalPosition]] = {}

    def announce(self, event: ModelPublished, at: JournalPosition, *, time_ms: int) -> Draft:
        """The record of one version; `at` is where the journal's chain stands after the batch that published it."""
        # The head ties what is public to the journal: whoever has kept one can tell that history was rewritten.
        head = Head(topic=ROUNDS.name, partition=self._at.partition, seq=at.seq, head=at.head.hex())
        value = sign_statement(describe_version(event, time_ms, head=head), self._key.checkpoint)
        return Draft(**self._at._asdict(), value=value, key=event.task.encode())

    def remember(self, decision: Decision, at: JournalPosition) -> None:
        """Take note of the versions in a decision that is read back: `published` must hold them."""
        for event in decision.events:
            if isinstance(event, ModelPublished):
                self._replayed[version_id(event)] = (event, decision.time_ms, at)

    def find_missing(self, *, since_ms: int | None) -> list[Draft]:
        """Records of versions that replay has met and `published` does not hold."""
        replayed, self._replayed = self._replayed, {}
        if not replayed:
            return []
        start = None if since_ms is None else self._log.first_since(self._at, since_ms - CLOCKS_DIFFER_MS_MAX)
        there = {json.loads(record.value or b"{}").get("id") for record in scan(self._log, self._at, start=start)}
        return [
            self.announce(event, at, time_ms=time_ms)
            for event_id, (event, time_ms, at) in replayed.items()
            if event_id not in there
        ]
