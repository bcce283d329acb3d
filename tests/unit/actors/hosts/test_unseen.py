"""Commits that readers do not see: told apart from those that they see a moment later."""

from __future__ import annotations

from actors.hosts.unseen import Unseen
from schemas.topics import CATALOGUE, ROUNDS
from streams.log import Draft, TopicPartition
from streams.memory import MemoryLog

AT = TopicPartition(ROUNDS.name, 1)


def test_only_what_stands_still_between_two_looks_is_found() -> None:
    """A commit that is late has moved on by the second look; one that a broker has forgotten has not."""
    log, unseen = MemoryLog(CATALOGUE), Unseen()
    for committed in (b"late", b"forgotten"):
        writer = log.writer("w")
        writer.begin()
        writer.put([Draft(**AT._asdict(), value=committed)])
        ends = {AT: log.find_written_end(AT)}
        assert unseen.look(log, ends) == {}
        if committed == b"late":
            writer.finish()
            assert unseen.look(log, ends) == {}
    assert unseen.look(log, ends) == {AT: 2}
