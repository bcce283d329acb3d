"""Which records of a journal its readers take: the same as those that fold it."""

from __future__ import annotations

from ops.history.authorship import Authorship
from schemas.events import RoundOpened
from schemas.topics import LEDGER, ROUNDS, TASKS
from streams.log import TopicPartition, scan
from tests.worlds.builders import role_key
from tests.worlds.ops_journal import PLACE, TASK, Journal, append, created, memory_log

AT = TopicPartition(ROUNDS.name, PLACE)
EVENT = RoundOpened(task=TASK, round=0)


def test_records_are_marked_as_readers_pass_them_over() -> None:
    """Junk and a zombie's batch; not the claims and batches between them, and nothing of what all may write."""
    log = memory_log()
    journal = Journal(log, ROUNDS.name)
    first = journal.chain.at.claim
    journal.batch(EVENT)
    append(log, ROUNDS.name, b"junk")
    journal.claim()
    journal.batch(EVENT, claim=first)
    journal.batch(EVENT)
    append(log, TASKS.name, created())
    places = [AT, TopicPartition(TASKS.name, PLACE), TopicPartition(LEDGER.name, PLACE)]
    for start, expected in (
        (0, [None, None, "stranger", None, "zombie", None]),
        (3, ["stranger", None, "zombie", None]),
    ):
        authorship = Authorship(log, places, trust=role_key("aggregator").trust(), start=start)
        assert [authorship.judge(record) for record in scan(log, AT, start=start)][-len(expected) :] == expected
    assert [authorship.judge(record) for record in scan(log, places[1])] == [None]


def test_behind_a_break_nothing_is_said() -> None:
    """A record before the first claim stops every reader of the journal, so that no later one is anybody's."""
    log = memory_log()
    append(log, ROUNDS.name, b"junk")
    append(log, ROUNDS.name, b"more")
    authorship = Authorship(log, [AT], trust=None)
    assert [authorship.judge(record) for record in scan(log, AT)] == ["unknown"] * 2
