"""The stream of a page: the sections that have changed since the last one, each time that the history has moved.

Its messages carry the position, so that a browser that lost its connection goes on exactly where it was.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass

from ops.history.tables.answers import QueryRefused
from ops.history.tables.positions import Position
from ops.history.tables.serving import WriterGone
from ops.web.changes import Changes, Refresh

# A person reads no faster, and a round of many small updates would draw the page for each.
PAUSE_S = 0.5
RENDERINGS_MAX = 64

Sections = Mapping[str, str]
Render = Callable[[], Sections]


class Renderings:
    """The sections of pages as they were drawn lately: a hundred open pages of one task are drawn once."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[object, ...], Sections] = OrderedDict()
        self._lock = threading.Lock()
        self._busy: dict[tuple[object, ...], threading.Event] = {}

    def find(self, key: tuple[object, ...], render: Render) -> Sections:
        """What was drawn for `key`; drawn now by whoever comes first, for whom the others wait."""
        while True:
            with self._lock:
                # Looked up and claimed in one step, or two would draw the same page at once.
                if key in self._kept:
                    return self._kept[key]
                waited = self._busy.get(key)
                if waited is None:
                    self._busy[key] = done = threading.Event()
            if waited is None:
                return self._render(key, render, done=done)
            waited.wait()

    def _render(self, key: tuple[object, ...], render: Render, *, done: threading.Event) -> Sections:
        try:
            sections = render()
            with self._lock:
                self._kept[key] = sections
                while len(self._kept) > RENDERINGS_MAX:
                    self._kept.popitem(last=False)
            return sections
        finally:
            # Whatever happened: those who wait try themselves, and nobody waits for ever.
            with self._lock:
                del self._busy[key]
            done.set()


@dataclass(frozen=True, slots=True)
class Stream:
    """One open page. `render` draws its sections at a position; `known` are those that it shows."""

    changes: Changes
    render: Callable[[Position], Sections]

    async def follow(self, after: Position | None) -> AsyncGenerator[bytes]:
        """Messages until the browser leaves: what has changed, and every second that all is well, or what is not."""
        shown: Sections | None = None
        owed: Position | None = None
        try:
            async for position in self.changes.follow(after):
                problem, owed = self.changes.problem, position or owed
                if owed is not None:
                    try:
                        sections = await asyncio.to_thread(self.render, owed)
                    except (WriterGone, QueryRefused):
                        # The page stays as it is and says so; what it is owed it gets when the history answers again.
                        yield write_message(problem or "history", event="beat")
                        continue
                    # The first time all of them: nobody knows what a page shows that was away.
                    fresh = [html for name, html in sections.items() if shown is None or shown.get(name) != html]
                    if fresh:
                        yield write_message("".join(fresh), position=owed)
                    shown, owed = sections, None
                # The browser measures silence: a beat is how it knows that nothing is new, and what is wrong.
                yield write_message(problem, event="beat")
                if position is not None:
                    await asyncio.sleep(PAUSE_S)
        except Refresh:
            # Positions of another generation cannot be compared, so the page starts afresh.
            yield write_message("", event="refresh")


def write_message(data: str, *, event: str = "", position: Position | None = None) -> bytes:
    """One message of a stream of events."""
    head = (f"event: {event}\n" if event else "") + (f"id: {position}\n" if position else "")
    # A line each: the form has no other way to hold a line break.
    return (head + "".join(f"data: {line}\n" for line in data.split("\n")) + "\n").encode()
