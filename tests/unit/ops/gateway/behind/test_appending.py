"""What requests bring, on its way to the log: who waits for company, who does not, and what each is told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.gateway.behind import appending
from ops.gateway.behind.appending import Appending
from ops.gateway.refusals import Overloaded
from schemas.topics import BODIES, CATALOGUE, CHECKINS, UPDATES
from streams.log import Draft, LogUnavailable, Record, TopicPartition, scan
from streams.memory import MemoryLog
from streams.packing import MESSAGES_MAX, PACKED_BYTES_MAX, unpack

T = TypeVar("T")
AT = TopicPartition(UPDATES.name, 0)


class _Log(MemoryLog):
    """A log that is away for some appends, and remembers how many records came in each."""

    def __init__(self, away: Sequence[bool] = ()) -> None:
        super().__init__(CATALOGUE)
        self.appends: list[int] = []
        self._away = iter(away)

    def append(self, drafts: Sequence[Draft]) -> list[int]:
        if next(self._away, False):
            raise LogUnavailable("no broker")
        self.appends.append(len(drafts))
        return super().append(drafts)

    def read(self, at: TopicPartition = AT) -> list[Record]:
        """Every message of a partition."""
        return [message for record in scan(self, at) for message in unpack(record)]


def _draft(value: bytes, topic: str = UPDATES.name) -> Draft:
    return Draft(topic=topic, partition=0, value=value)


def _run(log: _Log, work: Callable[[Appending], Awaitable[T]]) -> T:
    """Do this beside an appending that runs."""

    async def run() -> T:
        held = Appending(log)
        running = asyncio.create_task(held.run())
        try:
            async with asyncio.timeout(60):
                return await work(held)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    return asyncio.run(run())


@pytest.fixture
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for company waits for ever."""
    monkeypatch.setattr(appending, "GATHER_S", 1e9)


@pytest.mark.usefixtures("_patient")
def test_one_alone_leaves_at_once() -> None:
    """Guarantee: a message that comes to a log at rest waits for nobody, and is a record as every release reads it."""
    log = _Log()
    assert _run(log, lambda held: held.append([_draft(b"alone")])) == [0]
    assert [record.value for record in scan(log, AT)] == [b"alone"]


@pytest.mark.usefixtures("_patient")
def test_a_crowd_shares_a_record_and_each_is_told() -> None:
    """Guarantee: what comes soon after an append gathers until it fills a record; each has its own acknowledgement."""
    log = _Log()

    async def work(held: Appending) -> list[list[int]]:
        await held.append([_draft(b"first")])
        crowd = [asyncio.ensure_future(held.append([_draft(b"%d" % n)])) for n in range(MESSAGES_MAX - 1)]
        await asyncio.sleep(0.05)
        assert log.appends == [1]
        crowd.append(asyncio.ensure_future(held.append([_draft(b"last")])))
        return await asyncio.gather(*crowd)

    assert _run(log, work) == [[1]] * MESSAGES_MAX
    assert log.appends == [1, 1]
    assert [(record.offset, record.message) for record in log.read()][1:] == [(1, n) for n in range(MESSAGES_MAX)]


@pytest.mark.usefixtures("_patient")
def test_what_fills_a_record_waits_for_nobody() -> None:
    """Guarantee: chunks of a body leave at once, however soon after the last."""
    log = _Log()

    async def work(held: Appending) -> list[list[int]]:
        chunk = _draft(bytes(PACKED_BYTES_MAX), BODIES.name)
        return [await held.append([chunk]) for _ in range(3)]

    assert _run(log, work) == [[0], [1], [2]]


def test_who_waits_for_company_does_not_wait_for_ever() -> None:
    """Guarantee: without company a message leaves as well, and what is taken in at the end is appended."""
    log = _Log()

    async def work(held: Appending) -> list[int]:
        return [offset for n in range(4) for offset in await held.append([_draft(b"%d" % n)])]

    assert _run(log, work) == [0, 1, 2, 3]


@settings(max_examples=40)
@given(
    requests=st.lists(st.lists(st.sampled_from([CHECKINS.name, UPDATES.name, BODIES.name]), min_size=1, max_size=3)),
    pauses=st.lists(st.sampled_from([0.0, 0.0, 0.0, 0.002]), max_size=20),
    away=st.lists(st.booleans(), max_size=6),
)
def test_an_acknowledgement_is_of_what_is_in_the_log(
    requests: list[list[str]], pauses: list[float], away: list[bool]
) -> None:
    """Guarantee: in any interleaving each request's messages are in the log once, in its order, where it is told.

    A request that is refused has none of them there.
    """
    log = _Log(away)
    pause = iter(pauses)

    async def ask(held: Appending, number: int) -> list[int]:
        drafts = [_draft(b"%d/%d" % (number, part), topic) for part, topic in enumerate(requests[number])]
        with suppress(Overloaded):
            return await held.append(drafts)
        return []

    async def work(held: Appending) -> list[list[int]]:
        asked = []
        for number in range(len(requests)):
            asked.append(asyncio.ensure_future(ask(held, number)))
            await asyncio.sleep(next(pause, 0.0))
        return await asyncio.gather(*asked)

    told = _run(log, work)
    found: dict[bytes | None, int] = {}
    for topic in (CHECKINS.name, UPDATES.name, BODIES.name):
        records = log.read(TopicPartition(topic, 0))
        assert len({record.value for record in records}) == len(records)
        # Sorted by request alone, and so that those of one keep their order.
        by_request = sorted(records, key=lambda record: _place(record)[0])
        assert by_request == sorted(records, key=_place)
        found |= {record.value: record.offset for record in records}
    for number, topics in enumerate(requests):
        wanted = [found.get(b"%d/%d" % (number, part)) for part in range(len(topics))]
        assert wanted == (told[number] or [None] * len(topics))


def _place(record: Record) -> list[int]:
    """The request that a message came in, and its number there."""
    return [int(number) for number in (record.value or b"").split(b"/")]
