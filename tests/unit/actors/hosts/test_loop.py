"""The turns of a host, and what is due now and then."""

from __future__ import annotations

import asyncio

import pytest

from actors.expiry import Expiry, KeyExpired
from actors.hosts import loop
from actors.hosts.loop import HostLoop, Timer
from tests.worlds.builders import FOR_EVER_MS, role_key


class Noting(HostLoop):
    """A host that notes what it is asked for."""

    def __init__(self, until_ms: int = FOR_EVER_MS) -> None:
        super().__init__(Expiry(role_key("selector", until_ms=until_ms)))
        self.calls: list[str] = []

    async def open_assigned(self) -> None:
        """Note it."""
        self.calls.append("open")

    async def feed(self) -> int:
        """Note it; there is never anything."""
        self.calls.append("feed")
        return 0

    async def delete_unneeded(self) -> None:
        """Note it."""
        self.calls.append("delete")


def test_a_turn_opens_before_it_feeds() -> None:
    """In every turn, inputs or not: a quiet partition is opened too, and nobody waits for it."""
    hosted = Noting()
    asyncio.run(hosted.run(lambda: len(hosted.calls) >= 4))
    assert hosted.calls == ["open", "feed", "open", "feed"]


def test_what_is_unneeded_is_deleted_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once an interval, after a turn's inputs."""
    hosted = Noting()
    monkeypatch.setattr(hosted, "_deletion", Timer(0.0))
    asyncio.run(hosted.turn())
    assert hosted.calls == ["open", "feed", "delete"]


def test_a_host_ends_with_its_key() -> None:
    """Nobody believes what it would say: it stops between two turns, where nothing is in doubt."""
    hosted = Noting(until_ms=1)
    with pytest.raises(KeyExpired):
        asyncio.run(hosted.run(lambda: len(hosted.calls) >= 4))
    assert hosted.calls == ["open", "feed"]


def test_a_timer_is_due_once_an_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that was held up does not catch up on what it missed."""
    clock = iter([100.0, 109.0, 110.0, 110.0, 111.0, 150.0, 150.0, 151.0])
    monkeypatch.setattr(loop.time, "monotonic", lambda: next(clock))
    timer = Timer(10.0)
    assert [timer.is_due() for _ in range(5)] == [False, True, False, True, False]
