"""The routes of the page: which view answers which address, and the stream that keeps an open page up to date."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from ops.history.tables.answers import QueryRefused
from ops.history.tables.positions import Position
from ops.history.tables.serving import WriterGone
from ops.web.callers import find_caller
from ops.web.changes import parse_last_event_id
from ops.web.page.assets_index import serve_asset
from ops.web.page.layout import Frame, Page, render_page
from ops.web.page.live import Renderings, Sections, Stream
from ops.web.page.moment import Answers, Moment, find_until_ms
from ops.web.page.questions.position import list_stops
from ops.web.page.views.login import draw_login
from ops.web.page.views.overview import show_tasks
from ops.web.page.views.parts import show_problem
from ops.web.page.views.task import show_task
from ops.web.page.views.version import show_version

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from ops.web.site import Site

# A view gets all that an address says, by name; None says that there is nothing of that name.
View = Callable[[Moment, Mapping[str, str]], Page | None]
VIEWS: Mapping[str, View] = {
    "/tasks": lambda moment, asked: show_tasks(moment),
    "/tasks/{task}": lambda moment, asked: show_task(moment, asked["task"]),
    "/tasks/{task}/versions/{version:int}": lambda moment, asked: show_version(
        moment, asked["task"], version=int(asked["version"]), other=parse_number(asked.get("with", ""))
    ),
}


@dataclass(frozen=True, slots=True)
class Pages:
    """The views of one site, and what they remember of the last questions."""

    site: Site
    answers: Answers
    renderings: Renderings

    def make_moment(self, request: Request, *, at: str = "", position: Position | None = None) -> Moment:
        """The history for whoever asks; now, unless a time or a position is named. Raises QueryRefused, WriterGone."""
        caller = find_caller(request)
        reader = self.site.reader_for(caller)
        position = position or reader.position
        until_ms = find_until_ms(reader, at or str(position))
        may_change = caller.may("operator")
        return Moment(reader, position, until_ms, at=at, may_change=may_change, answers=self.answers)

    def show(self, request: Request, view: View) -> Response:
        """The whole document."""
        caller = find_caller(request)
        at = request.query_params.get("at", "")
        try:
            moment = self.make_moment(request, at=at)
            page = view(moment, read_asked(request))
        except QueryRefused as error:
            # What was mistyped in an address is told on a page, from which people go on.
            page, at = show_problem("There is no such moment", str(error)), ""
            moment = self.make_moment(request)
        if page is None:
            text = "The history knows nothing of that name at this moment."
            page = show_problem("There is nothing here", text, status=404)
        # The slider leads forward again too, so that its stops are those of now.
        now = self.make_moment(request) if at else moment
        frame = Frame(
            moment=moment,
            path=request.url.path,
            query=dict(request.query_params),
            deployment=self.site.deployment,
            subject=caller.subject,
            csrf=caller.csrf,
            stops=list_stops(now, page.task),
        )
        return HTMLResponse(render_page(page, frame), page.status)

    async def follow(self, request: Request, view: View) -> Response:
        """The stream of a page."""
        caller = find_caller(request)
        asked = read_asked(request)

        def render(position: Position) -> Sections:
            key = (request.url.path, *sorted(asked.items()), caller.role, position)
            return self.renderings.find(key, lambda: draw(position))

        def draw(position: Position) -> Sections:
            page = view(self.make_moment(request, position=position), asked)
            # What is gone from here shows nothing new; a page that was never there has no stream.
            return {} if page is None else {one.id: one.render(is_exchanged=True) for one in page.sections}

        stream = Stream(self.site.changes, render)
        return StreamingResponse(_until_gone(request, stream), media_type="text/event-stream")


def read_asked(request: Request) -> dict[str, str]:
    """What an address asks for: its query, and what its path names, which no query can override."""
    return {**request.query_params, **{name: str(value) for name, value in request.path_params.items()}}


async def _until_gone(request: Request, stream: Stream) -> AsyncIterator[bytes]:
    async for message in stream.follow(parse_last_event_id(request)):
        # Nothing tells a generator that its reader has left but asking.
        if await request.is_disconnected():
            return
        yield message


def make_routes(site: Site) -> list[BaseRoute]:
    """Every route of the page."""
    pages = Pages(site, Answers(), Renderings())
    routes: list[BaseRoute] = [
        Route("/assets/{digest}/{name}", serve_asset),
        Route("/", lambda request: RedirectResponse("/tasks")),
    ]
    for path, view in VIEWS.items():
        # A stream has the address of its page, with one word before it.
        routes += [
            Route(path, _make_page(pages, view)),
            Route(f"/live{path}", _make_stream(pages, view)),
        ]
    return routes


def _make_page(pages: Pages, view: View) -> Callable[[Request], object]:
    async def show(request: Request) -> Response:
        try:
            # DuckDB blocks, and a blocked loop would hold up every open stream.
            return await run_in_threadpool(pages.show, request, view)
        except WriterGone as error:
            return HTMLResponse(str(error), 503, headers={"Retry-After": "1"})

    return show


def _make_stream(pages: Pages, view: View) -> Callable[[Request], object]:
    async def follow(request: Request) -> Response:
        return await pages.follow(request, view)

    return follow


def parse_number(text: str) -> int | None:
    """A number as an address names it; None for other text."""
    # `isdecimal` takes the digits of every script; so many of them no version has.
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 15 else None


def render_login(*, problem: str = "", next_path: str = "/") -> str:
    """The form that takes a token; `problem` says why one was refused."""
    return draw_login(problem=problem, next_path=next_path)
