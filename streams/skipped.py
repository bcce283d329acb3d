"""Records that a reader passes over because no writer of ours can have written them: counted, and told now and then.

For topics that are no actor's input, where no journal counts the junk: `published`, `partials`.
"""

from __future__ import annotations

from streams.log import Record
from streams.notes import Notes

logger = Notes(__name__)


class Skipped:
    """Counts what was skipped of one topic."""

    def __init__(self) -> None:
        self.count = 0

    def note(self, record: Record, why: str) -> None:
        """Count a record."""
        self.count += 1
        # At every doubling: a flood must not fill the disk with lines, and a single record must not go unseen.
        if self.count & (self.count - 1) == 0:
            logger.warning("junk_skipped", place=str(record.place), why=why, count=self.count)
