"""Reads journals: follows the chain of one journal partition, and names the place where it breaks.

Whatever folds a journal reads it through here: replay, shard workers, read models, audit and export. A reader that
gets its records from elsewhere hands them to `JournalReader.follow` one by one; the others let `read` fetch them.
"""

from __future__ import annotations

from collections.abc import Iterator

from schemas.certificates import Trust
from schemas.journal import Batch, Chain, ChainBroken, Decision, JournalPosition, OutOfStep
from streams.log import EventLog, Place, Record, TopicPartition, scan
from streams.read_ahead import ReadAhead


class JournalBroken(ChainBroken):
    """A journal is off its chain at `place`; `what` names the records that may be to blame."""

    code = "journal_broken"

    def __init__(self, place: Place, what: str) -> None:
        super().__init__(f"{place}: {what}")
        self.place, self.what = place, what


class JournalReader:
    """Follows one journal partition from a position on; `position` is where the chain stands after the last record.

    With `trust` None it cannot tell a writer that the operator certified from one that says so.
    """

    def __init__(self, at: TopicPartition, *, trust: Trust | None, position: JournalPosition | None = None) -> None:
        self.at = at
        self._chain = Chain(*at, trust=trust, at=position or JournalPosition())
        # Which records to suspect where the chain breaks.
        self._last_batch = -1  # its offset
        self._is_last = True  # whether no record has followed it

    @property
    def position(self) -> JournalPosition:
        """The claim in force, the last seq and the chain's head."""
        return self._chain.at

    @position.setter
    def position(self, position: JournalPosition) -> None:
        self._chain.at = position

    @property
    def zombies(self) -> int:
        """Batches of superseded writers, which were skipped."""
        return self._chain.zombies

    @property
    def strangers(self) -> int:
        """Records that no writer of this journal signed for their place, which were passed over."""
        return self._chain.strangers

    def follow(self, record: Record) -> Batch | None:
        """Take the next record; its batch, or None for a claim, a resume, a zombie's batch or a stranger's record.

        Raises JournalBroken, and then the position stays as it was.
        """
        try:
            # A signature covers the value alone: with a key the record is not the one that its writer wrote.
            value = record.value or b"" if record.key is None else b""
            batch = self._chain.follow(record.offset, value, time_ms=record.time_ms)
        except ChainBroken as error:
            # A digest proves that something is wrong before the record that shows it, so both are named.
            what = error.what
            if isinstance(error, OutOfStep):
                what = f"{self._suspects()} is not what its writer wrote, or one between them is gone ({what})"
            raise JournalBroken(record.place, what) from error
        self._last_batch, self._is_last = (self._last_batch, False) if batch is None else (record.offset, True)
        return batch

    def read(
        self, log: EventLog, *, end: int | None = None, reads_ahead: bool = False
    ) -> Iterator[tuple[Record, Batch | None]]:
        """Every record from the first to `end` (default: where the journal ends now), each followed.

        `reads_ahead`: a thread fetches meanwhile, for who has much to do with each. Raises JournalBroken, also where
        the journal's first records have been deleted.
        """
        beginning = log.bounds(self.at).beginning
        # Claims carry no proof of what stood before them: a journal that lost its beginning could look whole.
        if beginning > 0:
            what = f"the journal begins at offset {beginning}: what stood before is gone"
            raise JournalBroken(Place(self.at, 0), what)
        records = scan(log, self.at, start=0, end=end)
        for record in ReadAhead(records) if reads_ahead else records:
            yield record, self.follow(record)

    def _suspects(self) -> str:
        """A batch vouches for the one before it and every claim since; which of them was changed it cannot say."""
        if self._last_batch < 0:
            return "this record or one before it"
        if self._is_last:
            return f"this record or the one at offset {self._last_batch}"
        return f"this record or one from offset {self._last_batch} on"


def read_decisions(
    log: EventLog, at: TopicPartition, *, trust: Trust | None, reads_ahead: bool = False
) -> Iterator[tuple[Record, Decision, JournalPosition]]:
    """Every decision of a journal partition, its record, and where the chain stands after that record.

    Raises JournalBroken.
    """
    journal = JournalReader(at, trust=trust)
    for record, batch in journal.read(log, reads_ahead=reads_ahead):
        for decision in batch.decisions if batch else ():
            yield record, decision, journal.position
