"""A large answer goes out by parts, and a client that takes none of them is left."""

from __future__ import annotations

import asyncio

import pytest
from starlette.responses import Response
from starlette.types import Message

from ops.web.api import sending
from ops.web.api.sending import HeldResponse


async def receive() -> Message:
    """Nothing comes."""
    raise AssertionError


@pytest.mark.parametrize("size", [0, 1, 4, 9])
def test_all_of_it_arrives(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """The same bytes and headers, however many parts they are, and the place is free again at the end."""
    monkeypatch.setattr(sending, "PART_BYTES", 4)
    left: list[int] = []
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    whole = Response(bytes(range(size)), 206, headers={"ETag": "x"})
    asyncio.run(HeldResponse(whole, lambda: left.append(1))({}, receive, send))
    assert (sent[0]["status"], sent[0]["headers"]) == (206, whole.raw_headers)
    assert b"".join(message["body"] for message in sent[1:]) == bytes(range(size))
    assert [message["more_body"] for message in sent[1:]] == [True] * (len(sent) - 2) + [False]
    assert left == [1]


def test_who_reads_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model lies in memory until its client has it; one that never takes it would hold it for ever."""
    monkeypatch.setattr(sending, "PART_WAIT_S", 0.05)
    left: list[int] = []

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    async def answer() -> bool:
        async with asyncio.timeout(60) as patience:
            with pytest.raises(TimeoutError):
                await HeldResponse(Response(b"model"), lambda: left.append(1))({}, receive, send)
        return patience.expired()

    assert asyncio.run(answer()) is False
    assert left == [1]
