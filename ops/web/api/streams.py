"""Everything new as it happens: server-sent events that go on exactly where a client was."""

from __future__ import annotations

import asyncio
import json
import re
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import StreamingResponse

from ops.history.tables.positions import Position
from ops.web.api.asked import list_objects
from ops.web.api.rows import Filter
from ops.web.callers import find_caller
from ops.web.changes import Changes, Refresh
from ops.web.problems import RequestRefused
from ops.web.reading import HistoryReader
from ops.web.site import find_site

router = APIRouter(tags=["streams"])

EVENTS_MAX = 500
# Through proxies and browsers: what is silent for a minute is closed by many.
SILENCE_S_MAX = 15
# Whoever follows closely asks for the same as all others; who is behind asks alone.
REMEMBERED_MAX = 64
_ID = re.compile(r"(?P<position>[0-9a-f]{16}:[0-9]{1,18})(?:\+(?P<seen>[0-9]{1,9}))?")
_NEW = f"""
FROM events WHERE sequence > $after AND sequence <= $until
ORDER BY sequence, topic, "partition", "offset", number LIMIT {EVENTS_MAX} OFFSET $seen
"""


@dataclass(frozen=True, slots=True)
class Cursor:
    """Up to where a client has read: a position, and how many of the events after it."""

    position: Position
    seen: int = 0

    def __str__(self) -> str:
        return f"{self.position}+{self.seen}" if self.seen else str(self.position)


def parse_cursor(text: str) -> Cursor | None:
    """What a stream gave as `id`; None for anything else."""
    found = _ID.fullmatch(text)
    position = Position.parse(found["position"]) if found else None
    return None if found is None or position is None else Cursor(position, int(found["seen"] or 0))


@dataclass(frozen=True, slots=True)
class _Part:
    """Some events after a cursor, and the cursor after them."""

    events: list[dict[str, Any]]
    end: Cursor


class Feed:
    """Reads what is new once for all streams that ask for it."""

    def __init__(self, reader: HistoryReader) -> None:
        self._reader = reader
        self._parts: OrderedDict[tuple[Cursor, Position], asyncio.Task[_Part]] = OrderedDict()

    async def read(self, after: Cursor, until: Position) -> _Part:
        """The next events after a cursor, of those that are stored up to a position. Raises WriterGone."""
        key = (after, until)
        part = self._parts.get(key)
        if part is None or (part.done() and part.exception() is not None):
            part = self._parts[key] = asyncio.create_task(asyncio.to_thread(self._read, after, until))
            if len(self._parts) > REMEMBERED_MAX:
                self._parts.popitem(last=False)
        # Shielded: one client that leaves must not end the question of all others.
        return await asyncio.shield(part)

    def _read(self, after: Cursor, until: Position) -> _Part:
        asked = {"after": after.position.sequence, "until": until.sequence, "seen": after.seen}
        events = [*list_objects(self._reader.ask(_NEW, parameters=asked))]
        is_whole = len(events) < EVENTS_MAX
        return _Part(events, Cursor(until) if is_whole else Cursor(after.position, after.seen + len(events)))


@dataclass(frozen=True, slots=True)
class Feeds:
    """One for operators, and one for everybody else."""

    all: Feed
    hidden: Feed


class Wanted(BaseModel):
    """Which events; all where nothing is named."""

    task: Filter = None
    event: Filter = None
    after: Annotated[str | None, Query(max_length=60, description="Where to begin, as Last-Event-ID says it.")] = None

    def admits(self, event: dict[str, Any]) -> bool:
        """Whether it is one of these."""
        return self.task in (None, event["task"]) and self.event in (None, event["event"])


@router.get(
    "/events/stream",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}, "description": "Messages `events`, `refresh`, `alive`."}},
)
async def stream_events(request: Request, wanted: Annotated[Wanted, Query()]) -> StreamingResponse:
    """Every new event, as messages `events` with a list each; `id` says where to go on with Last-Event-ID.

    `refresh`: the history was built anew, and everything has to be read again. It begins with what is new from now on
    unless it is told where a client was.
    """
    site, caller = find_site(request), find_caller(request)
    said = request.headers.get("last-event-id") or wanted.after
    begin = None if said is None else parse_cursor(said)
    if said is not None and begin is None:
        raise RequestRefused("Last-Event-ID: none of this stream's.")
    feeds: Feeds = request.app.state.feeds
    messages = _follow(site.changes, feeds.all if caller.may("operator") else feeds.hidden, wanted=wanted, begin=begin)
    # Proxies must not gather what is to be seen at once.
    headers = {"X-Accel-Buffering": "no", "Cache-Control": "no-store"}
    return StreamingResponse(site.watchers.admit(caller, messages), media_type="text/event-stream", headers=headers)


async def _follow(changes: Changes, feed: Feed, *, wanted: Wanted, begin: Cursor | None) -> AsyncIterator[str]:
    cursor, silent_s = begin, 0
    while not changes.is_over:
        try:
            async for position in changes.follow(cursor.position if cursor else None):
                silent_s += 1
                if position is None and silent_s >= SILENCE_S_MAX:
                    silent_s = 0
                    yield ": alive\n\n"
                if position is None:
                    continue
                if cursor is None:
                    cursor = Cursor(position)
                    yield _write("begin", cursor, told={"position": str(position)})
                while cursor.position != position:
                    part = await feed.read(cursor, position)
                    cursor, silent_s = part.end, 0
                    found = [event for event in part.events if wanted.admits(event)]
                    # Nothing of it is wanted, and still a client must not begin before it again.
                    yield _write("events", cursor, told=found) if found else f"id: {cursor}\n\n"
        except Refresh:
            cursor = None
            yield "event: refresh\ndata: {}\n\n"


def _write(event: str, cursor: Cursor, *, told: Any) -> str:
    # One message for all of them and its `id` with it: it arrives as a whole, or is sent again as a whole.
    data = json.dumps(told, ensure_ascii=True, allow_nan=False)
    return f"event: {event}\nid: {cursor}\ndata: {data}\n\n"
