"""What readers of journals pass over: records that no writer of the journal signed, and those of superseded writers.

They stand between the others and look like them, and decide nothing. `fedlog events` marks them.
"""

from __future__ import annotations

from collections.abc import Iterable

from schemas.certificates import Trust
from schemas.journal import WRITERS
from streams.journals import JournalBroken, JournalReader
from streams.log import EventLog, Record, TopicPartition, scan

STRANGER, ZOMBIE, UNKNOWN = "stranger", "zombie", "unknown"


class Authorship:
    """Follows the chain of each journal partition that it is shown records of, from its first record on."""

    def __init__(self, log: EventLog, places: Iterable[TopicPartition], *, trust: Trust | None, start: int = 0) -> None:
        self._journals = {at: JournalReader(at, trust=trust) for at in places if at.topic in WRITERS}
        # Behind a break nobody can say which records are the chain's.
        self._broken = {at for at in self._journals if log.bounds(at).beginning > 0}
        for at in self._journals.keys() - self._broken if start > 0 else ():
            for record in scan(log, at, end=min(start, log.bounds(at).end)):
                self.judge(record)

    def judge(self, record: Record) -> str | None:
        """Why readers pass over this record, the next of its partition; None where they take it, or all take all."""
        if (journal := self._journals.get(record.at)) is None:
            return None
        if record.at in self._broken:
            return UNKNOWN
        zombies, strangers = journal.zombies, journal.strangers
        try:
            journal.follow(record)
        except JournalBroken:
            self._broken.add(record.at)
            return UNKNOWN
        if journal.strangers > strangers:
            return STRANGER
        return ZOMBIE if journal.zombies > zombies else None
