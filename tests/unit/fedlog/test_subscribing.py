"""`fedlog.subscribe`: what a service's own code is told, at least once, and how it ends."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path

import pytest

import fedlog
from ops.settings import ENVIRONMENT, Settings
from streams.memory import MemoryLog
from tests.worlds.builders import TASK
from tests.worlds.ops_journal import memory_log, write_key
from tests.worlds.published.announcing import announce_rollout, announce_version, publish


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> MemoryLog:
    """A log with two versions, of which one is promoted."""
    log = memory_log()
    publish(log, announce_version(0), announce_version(1), announce_rollout("promoted", 1))
    monkeypatch.setattr(Settings, "log", lambda self, client_id="": log)
    monkeypatch.setattr("fedlog.subscribing.POLL_S", 0.0)
    monkeypatch.chdir(tmp_path)
    write_key(tmp_path / ".fedlog" / "operator.key")
    for variable in ENVIRONMENT:
        monkeypatch.delenv(variable, raising=False)
    return log


async def take(count: int, *, promoted: bool = False) -> list[tuple[str, int]]:
    """So many, in a loop that is left within the last."""
    told: list[tuple[str, int]] = []
    options = fedlog.subscribe(TASK, begin="beginning", state="position", promoted=promoted)
    # One that moved its position too early would wait for ever.
    async with asyncio.timeout(10), aclosing(options) as stream:
        async for published in stream:
            told.append((published.kind, published.version))
            if len(told) == count:
                break
    return told


def test_each_is_told_until_the_loop_goes_on(log: MemoryLog) -> None:
    """Guarantee: at least once; the one within which a loop is left is given again by the next with its position."""
    assert asyncio.run(take(2)) == [("published", 0), ("published", 1)]
    assert asyncio.run(take(2)) == [("published", 1), ("promoted", 1)]


def test_promotions_alone(log: MemoryLog) -> None:
    """Guarantee: who only serves models hears of nothing else."""
    assert asyncio.run(take(1, promoted=True)) == [("promoted", 1)]


def test_an_exception_of_the_handler_leaves_it_undone(log: MemoryLog) -> None:
    """Guarantee: what a handler did not finish is given again."""

    async def fail() -> None:
        async with aclosing(fedlog.subscribe(TASK, begin="beginning", state="position")) as stream:
            async for _ in stream:
                raise ValueError("the handler failed")

    with pytest.raises(ValueError, match="the handler failed"):
        asyncio.run(fail())
    assert asyncio.run(take(1)) == [("published", 0)]


def test_a_wait_can_be_cancelled(log: MemoryLog) -> None:
    """Guarantee: whoever waits for the next one ends at once when asked to, and lets go of the position."""

    async def wait() -> None:
        async with aclosing(fedlog.subscribe("other", begin="beginning", state="position")) as stream:
            await asyncio.wait_for(anext(stream), 0.2)

    with pytest.raises(TimeoutError):
        asyncio.run(wait())
    with pytest.raises(TimeoutError):
        asyncio.run(wait())
