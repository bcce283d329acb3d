"""The inbox: a lone record is handed on at once, many are handed on together."""

from __future__ import annotations

import asyncio

import pytest

from actors.hosts import inbox
from actors.hosts.inbox import Delivery, Inbox, choose_pace_s
from streams.log import Record
from streams.packing import pack


def delivery(offset: int, value: bytes = b"") -> Delivery:
    """One record."""
    return Delivery(Record("updates", 0, offset, 0, None, value), lambda: None)


def test_what_came_together_is_handed_on_together() -> None:
    """In the order in which it came, so that one transaction covers all of it."""

    async def drained() -> list[int]:
        box = Inbox()
        for offset in range(3):
            await box.put(delivery(offset))
        return [each.record.offset for each in await box.drain()]

    assert asyncio.run(drained()) == [0, 1, 2]


def test_a_quiet_inbox_gives_the_turn_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host without inputs still has partitions to open and time to mark."""
    monkeypatch.setattr(inbox, "IDLE_WAIT_S", 0.001)

    async def drained() -> list[Delivery]:
        return await Inbox().drain()

    assert asyncio.run(drained()) == []


@pytest.mark.parametrize(("limit", "most", "size"), [("RECORDS_MAX", 2, 0), ("BYTES_MAX", 10, 6)])
def test_a_full_inbox_makes_its_writer_wait(limit: str, most: int, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded however far behind a host is: in records, and in bytes, for a record may be very large."""
    monkeypatch.setattr(inbox, limit, most)

    async def filled() -> tuple[bool, bool]:
        box = Inbox()
        writer = asyncio.gather(*(box.put(delivery(offset, bytes(size))) for offset in range(3)))
        await asyncio.sleep(0.01)
        was_done = writer.done()
        await box.drain()
        await asyncio.sleep(0.01)
        return was_done, writer.done()

    assert asyncio.run(filled()) == (False, True)


def test_a_run_is_short_also_where_records_hold_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run holds back every answer in it, so that it is counted in messages; nothing is lost by its end."""
    monkeypatch.setattr(inbox, "RUN_INPUTS_MAX", 5)

    async def drained() -> list[list[int]]:
        box = Inbox()
        for offset in range(5):
            await box.put(delivery(offset, pack([b"a", b"b"])))
        return [[each.record.offset for each in await box.drain()] for _ in range(2)]

    assert asyncio.run(drained()) == [[0, 1, 2], [3, 4]]


def test_only_load_is_paced(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a record that came alone the next one is not held up, after several it waits for others."""
    monkeypatch.setattr(inbox, "PACE_S", 1e6)
    monkeypatch.setattr(inbox, "PACE_S_MAX", 1e6)

    async def paced(count: int) -> bool:
        box = Inbox()
        for offset in range(count):
            await box.put(delivery(offset))
        await box.drain()
        await box.put(delivery(count))
        try:
            await asyncio.wait_for(box.drain(), 0.01)
        except TimeoutError:
            return True
        return False

    assert (asyncio.run(paced(1)), asyncio.run(paced(2))) == (False, True)


def test_the_more_come_together_the_longer_the_next_ones_wait() -> None:
    """Guarantee: a few inputs are held up no longer than ever, and no load holds them up longer than the bound."""
    paces_s = [choose_pace_s(inputs) for inputs in (1, 2, 4, 8, 64, 2_000)]
    assert paces_s[:3] == [0.0, inbox.PACE_S, inbox.PACE_S]
    assert inbox.PACE_S < paces_s[3] < paces_s[4] == paces_s[5] == inbox.PACE_S_MAX
