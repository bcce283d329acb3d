"""The stream of an open page: what has changed, what is wrong, and nothing that is owed is forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from ops.history.tables.duckdb_file import HistoryFile
from ops.history.tables.positions import Position
from ops.history.tables.projector import Mark
from ops.history.tables.serving import WriterGone
from ops.web import changes
from ops.web.changes import Changes
from ops.web.page import live
from ops.web.page.live import Sections, Stream, write_message
from ops.web.reading import OwnHistory
from streams.log import TopicPartition
from tests.tables import opened


class Page:
    """A page of two sections over a history: one shows where it stands. `is_gone`: nobody answers for it."""

    def __init__(self, history: HistoryFile) -> None:
        self.history, self.is_gone, self.is_log_away = history, False, False
        self.changes = Changes(OwnHistory(history), is_log_away=lambda: self.is_log_away)

    def render(self, position: Position) -> Sections:
        """Its sections at a position."""
        if self.is_gone:
            raise WriterGone
        return {"where": f"<p>{position.sequence}</p>", "ever": "<p>the same</p>"}

    def move(self) -> Position:
        """The history takes in something."""
        self.history.write({}, {TopicPartition("rounds", 0): Mark(1, 7)})
        return self.history.position

    async def follow(self, after: Position | None) -> AsyncGenerator[bytes]:
        """The messages of its stream, while it is watched."""
        watching = asyncio.create_task(self.changes.watch())
        try:
            async with asyncio.timeout(60), aclosing(Stream(self.changes, self.render).follow(after)) as messages:
                async for message in messages:
                    yield message
        finally:
            watching.cancel()


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Page]:
    """A page whose stream does not pause."""
    monkeypatch.setattr(live, "PAUSE_S", 0.0)
    monkeypatch.setattr(changes, "HEARTBEAT_S", 0.05)
    with opened(tmp_path / "history.duckdb") as history:
        yield Page(history)


BEAT = write_message("", event="beat")


async def read_until(messages: AsyncGenerator[bytes], wanted: bytes) -> list[bytes]:
    """The messages up to one that is wanted."""
    found: list[bytes] = []
    async for message in messages:
        found.append(message)
        if message == wanted:
            return found
    raise AssertionError(found)


def test_only_what_has_changed_is_sent_again(page: Page) -> None:
    """The first message holds every section, the next ones those that differ, each with its position."""

    async def look() -> None:
        async with aclosing(page.follow(None)) as messages:
            first, second = page.history.position, None
            await read_until(messages, write_message("<p>0</p><p>the same</p>", position=first))
            second = page.move()
            await read_until(messages, write_message("<p>1</p>", position=second))

    asyncio.run(look())


def test_what_could_not_be_drawn_is_drawn_later(page: Page) -> None:
    """While the history does not answer the page says so; when it answers, what it is owed comes without more news."""

    async def look() -> None:
        async with aclosing(page.follow(page.history.position)) as messages:
            await read_until(messages, BEAT)
            page.is_gone = True
            position = page.move()
            await read_until(messages, write_message("history", event="beat"))
            page.is_gone = False
            await read_until(messages, write_message("<p>1</p><p>the same</p>", position=position))
            assert await anext(messages) == BEAT

    asyncio.run(look())


def test_a_log_that_is_away_is_told_beside_what_is_new(page: Page) -> None:
    """What the history took in before the log was gone is shown all the same, and the beat names the log."""

    async def look() -> None:
        async with aclosing(page.follow(page.history.position)) as messages:
            await read_until(messages, BEAT)
            page.is_log_away = True
            await read_until(messages, write_message("log", event="beat"))
            position = page.move()
            await read_until(messages, write_message("<p>1</p><p>the same</p>", position=position))
            assert await anext(messages) == write_message("log", event="beat")
            page.is_log_away = False
            await read_until(messages, BEAT)

    asyncio.run(look())


def test_a_page_of_another_history_starts_afresh(page: Page) -> None:
    """A position of another generation cannot be gone on from."""

    async def look() -> None:
        async with aclosing(page.follow(Position("0" * 16, 3))) as messages:
            await read_until(messages, write_message("", event="refresh"))

    asyncio.run(look())
