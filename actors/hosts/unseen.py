"""What an actor has committed and readers do not see: a broker that crashed in the commit has forgotten to end it."""

from __future__ import annotations

from collections.abc import Mapping

from streams.log import EventLog, TopicPartition


class Unseen:
    """Compares what was committed with what can be read, look by look.

    `looks` that find a place where it was say that it hangs; from the first to the last must take longer than any
    transaction may last: what is only late, or held back by a stranger's, has moved on by then.
    """

    def __init__(self, looks: int = 2) -> None:
        self._looks = looks
        self._seen: dict[TopicPartition, tuple[int, int]] = {}  # where it stood, and in how many looks

    def look(self, log: EventLog, ends: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """The places that readers have not got past in so many looks, and where; `ends` is how far they must see.

        Raises LogUnavailable, and then the look does not count.
        """
        bounds = log.list_bounds(ends)
        behind = {at: bounds[at].end for at, end in ends.items() if bounds[at].end < end}
        before, self._seen = self._seen, {}
        for at, place in behind.items():
            stood, looks = before.get(at, (place, 0))
            self._seen[at] = place, looks + 1 if stood == place else 1
        return {at: place for at, (place, looks) in self._seen.items() if looks >= self._looks}
