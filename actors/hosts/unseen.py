"""What an actor has committed and readers do not see: a broker that crashed in the commit has forgotten to end it."""

from __future__ import annotations

from collections.abc import Mapping

from streams.log import EventLog, TopicPartition


class Unseen:
    """Compares what was committed with what can be read, look by look.

    The looks have to be as far apart as a transaction may last: what is only late has moved on by the next.
    """

    def __init__(self) -> None:
        self._before: Mapping[TopicPartition, int] = {}

    def look(self, log: EventLog, ends: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """The places that readers have not got past since the look before, and where; `ends` is how far they must see.

        Raises LogUnavailable, and then the look does not count.
        """
        bounds = log.list_bounds(ends)
        before, self._before = self._before, {at: bounds[at].end for at, end in ends.items() if bounds[at].end < end}
        return dict(self._before.items() & before.items())
