"""Open streams: so many for each, and none for longer than the token that opened it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from ops.web.access.limiting import RateExceeded
from ops.web.access.watchers import EACH_MAX, Watchers
from ops.web.callers import Caller
from tests.serving import Served, make_client

ADA, BOB = (Caller(subject=name, role="viewer", until_s=100.0) for name in ("ada", "bob"))


async def count() -> AsyncIterator[int]:
    """Messages without end."""
    for number in range(1_000_000):
        yield number


async def close(*streams: AsyncIterator[int]) -> None:
    """The clients have gone."""
    for stream in streams:
        await stream.aclose()  # type: ignore[attr-defined]


def test_a_stream_ends_with_its_token() -> None:
    """Whoever opened it in time hears nothing more once the token is over."""
    now_s = [99.0]
    watchers = Watchers(clock=lambda: now_s[0])

    async def follow() -> list[int]:
        heard = []
        async for message in watchers.admit(ADA, count()):
            heard.append(message)
            now_s[0] += 0.5
        return heard

    assert asyncio.run(follow()) == [0, 1]


def test_each_has_a_number_of_streams() -> None:
    """One who opens them without end keeps nobody else out, and has a place again for each that ends."""
    watchers = Watchers(clock=lambda: 0.0)

    async def flood() -> None:
        streams = [watchers.admit(ADA, count()) for _ in range(EACH_MAX)]
        for stream in streams:
            assert await anext(stream) == 0
        with pytest.raises(RateExceeded):
            watchers.admit(ADA, count())
        other = watchers.admit(BOB, count())
        assert await anext(other) == 0
        await close(streams.pop())
        streams.append(watchers.admit(ADA, count()))
        assert await anext(streams[-1]) == 0
        await close(*streams, other)

    asyncio.run(flood())


def test_of_many_at_once_some_are_ended() -> None:
    """Admitted before any of them has begun, those beyond the bound hear nothing; none of them fails in mid-answer."""
    watchers = Watchers(clock=lambda: 0.0)

    async def rush() -> None:
        streams = [watchers.admit(ADA, count()) for _ in range(EACH_MAX + 2)]
        heard = [await anext(stream, None) for stream in streams]
        assert heard == [0] * EACH_MAX + [None] * 2
        await close(*streams)

    asyncio.run(rush())


@pytest.mark.parametrize("path", ["/api/v1/events/stream", "/live/tasks"])
def test_every_stream_of_the_server_is_one_of_these(served: Served, path: str) -> None:
    """Of the API and of the page: where there are too many already, another one is refused."""
    site, _ = served
    with make_client(site) as client:
        for _ in range(EACH_MAX):
            site.watchers._places.take("a viewer")
        assert (client.get(path).status_code, client.get(path).json()["code"]) == (429, "rate_exceeded")
