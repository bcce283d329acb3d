"""Commits that readers do not see: told apart from those that they see a moment later."""

from __future__ import annotations

from actors.hosts.host import HANGS_LOOKS
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


def test_a_strangers_transactions_one_after_the_other_are_no_hanging_one() -> None:
    """Each holds readers back for a look or two, as long as brokers let it, and the next holds them further on."""
    log, unseen = MemoryLog(CATALOGUE), Unseen(looks=HANGS_LOOKS)
    strangers = [log.writer(f"stranger-{number}") for number in range(4)]
    ends = {AT: 99}
    held = [log.append([Draft(**AT._asdict(), value=b"ours")])]
    for before, stranger in zip([None, *strangers], strangers, strict=False):
        stranger.begin()
        stranger.put([Draft(**AT._asdict(), value=b"held")])
        if before is not None:
            before.finish()
        held.append([log.bounds(AT).end])
        assert [unseen.look(log, ends), unseen.look(log, ends)] == [{}, {}]
    # The last one stays open past all looks: that one hangs.
    assert unseen.look(log, ends) == {AT: held[-1][0]}
