"""A stream goes on exactly where its client was: every event once, whoever ends in between."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from ops.history.tables.duckdb_file import HistoryFile
from ops.history.tables.facts import FACTS
from ops.history.tables.positions import Position
from ops.history.tables.projector import Mark
from ops.web.api import streams
from ops.web.api.streams import Cursor, Feed, Wanted, parse_cursor
from ops.web.app import make_app
from ops.web.changes import Changes
from ops.web.reading import OwnHistory
from ops.web.serving import listen, make_server
from schemas.events import RoundOpened
from streams.log import TopicPartition
from tests.serving import Served, make_client, make_token
from tests.tables import opened

AT = TopicPartition("rounds", 3)


def write_rounds(history: HistoryFile, numbers: range) -> None:
    """A batch with one event for each number."""
    places = [("rounds", 3, number, 0, None, None, 0, 7, 7) for number in numbers]
    events = [RoundOpened(task="digits", round=number) for number in numbers]
    history.write({"round_opened": [FACTS[RoundOpened].make_columns(places, events)]}, {AT: Mark(numbers.stop, 7)})


def read_message(text: str) -> dict[str, Any]:
    """The fields of a message as a client reads them."""
    return dict(line.partition(": ")[::2] for line in text.strip().splitlines())


async def follow(history: HistoryFile, begin: Cursor | None, *, count: int) -> list[dict[str, Any]]:
    """The first messages of a stream of a watched history."""
    reader = OwnHistory(history)
    changes = Changes(reader)
    watching = asyncio.create_task(changes.watch())
    found: list[dict[str, Any]] = []
    try:
        messages: AsyncIterator[str] = streams._follow(changes, Feed(reader), wanted=Wanted(), begin=begin)
        async with asyncio.timeout(60), aclosing(messages):  # type: ignore[type-var]
            async for text in messages:
                if len(found := [*found, read_message(text)]) == count:
                    break
    finally:
        watching.cancel()
    return found


@pytest.mark.parametrize("events_max", [2, 500])
def test_a_client_that_comes_back_misses_and_repeats_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events_max: int
) -> None:
    """Cut after any message, in the midst of a batch too, it goes on with the next event."""
    monkeypatch.setattr(streams, "EVENTS_MAX", events_max)
    monkeypatch.setattr(streams, "_NEW", streams._NEW.replace("LIMIT 500", f"LIMIT {events_max}"))
    with opened(tmp_path / "history.duckdb") as history:
        begin = Cursor(history.position)
        batches = iter((range(3), range(3, 8), range(8, 9)))
        seen: list[int] = []
        cursor: Cursor | None = begin
        while len(seen) < 9:
            # The next batch comes when the last is read, or no client would ever go on from a seam between two.
            if cursor == Cursor(history.position):
                write_rounds(history, next(batches))
            # One message, and then the client is gone.
            message = asyncio.run(follow(history, cursor, count=1))[0]
            assert message["event"] == "events"
            seen += [event["values"]["round"] for event in json.loads(message["data"])]
            cursor = parse_cursor(message["id"])
        assert seen == list(range(9))
        assert cursor == Cursor(history.position)


def test_a_history_that_was_built_anew_is_told(tmp_path: Path) -> None:
    """Another generation: a refresh, and then what is new from now on."""
    with opened(tmp_path / "history.duckdb") as history:
        write_rounds(history, range(1))
        messages = asyncio.run(follow(history, Cursor(Position("0" * 16, 5)), count=2))
    assert [message["event"] for message in messages] == ["refresh", "begin"]
    assert messages[1]["id"] == str(history.position)


def test_many_streams_ask_the_history_once(tmp_path: Path) -> None:
    """A hundred clients at one place cost one question."""
    with opened(tmp_path / "history.duckdb") as history:
        begin = Cursor(history.position)
        write_rounds(history, range(1))
        feed, asked = Feed(OwnHistory(history)), []
        read = feed._read
        feed._read = lambda *key: asked.append(key) or read(*key)  # type: ignore[method-assign, func-returns-value]

        async def ask() -> list[Any]:
            return await asyncio.gather(*(feed.read(begin, history.position) for _ in range(100)))

        parts = asyncio.run(ask())
        assert (len(parts), len(asked)) == (100, 1)


def test_an_id_that_is_none_is_refused(served: Served) -> None:
    """Whoever says where it was and cannot be understood would miss events without knowing."""
    site, _ = served
    with make_client(site) as client:
        for text in ("12", "0123456789abcdef:1+", "0123456789abcdef:1+x", "0123456789abcdef"):
            assert parse_cursor(text) is None
            answer = client.get("/api/v1/events/stream", headers={"Last-Event-ID": text})
            assert (answer.status_code, answer.json()["code"]) == (422, "request_invalid")


@pytest.mark.parametrize("path", ["/live/tasks", "/api/v1/events/stream"])
def test_a_server_that_ends_lets_streams_end_too(served: Served, caplog: pytest.LogCaptureFixture, path: str) -> None:
    """Guarantee: whoever ends a server while a page is open reads of no error, and the stream comes whole."""
    site, _ = served
    server, listening = make_server(make_app(site)), listen("127.0.0.1", 0)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        client = http.client.HTTPConnection("127.0.0.1", listening.getsockname()[1], timeout=60)
        client.request("GET", path, headers={"Authorization": f"Bearer {make_token(site.tokens, 'operator')}"})
        answer = client.getresponse()
        answer.readline()
        server.should_exit = True
        answer.read()  # raises IncompleteRead where the stream was cut
        client.close()
    finally:
        server.should_exit = True
        thread.join(60)
    assert [record for record in caplog.records if record.name.startswith("uvicorn")] == []
