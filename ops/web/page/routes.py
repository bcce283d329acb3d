"""The routes of the page: which view answers which address, and the stream that keeps an open page up to date."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from ops.history.tables.serving import WriterGone
from ops.web.page import actions
from ops.web.page.assets_index import serve_asset
from ops.web.page.pages import FindTitle, Pages, View
from ops.web.page.questions.happened import Filter
from ops.web.page.questions.overview import find_task
from ops.web.page.views.devices import EVERY, show_device, show_devices
from ops.web.page.views.events import show_events, show_record
from ops.web.page.views.login import draw_login
from ops.web.page.views.overview import show_tasks
from ops.web.page.views.privacy import show_privacy
from ops.web.page.views.system import show_system
from ops.web.page.views.task import show_task
from ops.web.page.views.version import show_version

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from ops.web.site import Site

VIEWS: Mapping[str, View] = {
    "/tasks": lambda moment, asked: show_tasks(moment),
    "/tasks/{task}": lambda moment, asked: show_task(moment, asked["task"]),
    "/tasks/{task}/versions/{version:int}": lambda moment, asked: show_version(
        moment, asked["task"], version=int(asked["version"]), other=parse_number(asked.get("with", ""))
    ),
    "/events": lambda moment, asked: show_events(
        moment, Filter(**{name: asked.get(name, "") for name in ("task", "device", "kind", "reason", "before")})
    ),
    "/records/{topic}/{partition:int}/{offset:int}": lambda moment, asked: show_record(
        moment, asked["topic"], partition=int(asked["partition"]), offset=int(asked["offset"])
    ),
    "/devices": lambda moment, asked: show_devices(
        moment, task=asked.get("task", ""), cohort=asked["cohort"] if asked.get("cohort") else EVERY
    ),
    "/devices/{device}": lambda moment, asked: show_device(moment, asked["device"]),
    "/privacy": lambda moment, asked: show_privacy(moment, task=asked.get("task", "")),
    "/system": lambda moment, asked: show_system(moment),
}


# Views that take as long as a task's past does.
TITLES: Mapping[str, FindTitle] = {"/tasks/{task}": lambda moment, asked: find_task(moment, asked["task"])}


def make_routes(site: Site) -> list[BaseRoute]:
    """Every route of the page."""
    pages = Pages(site)
    routes: list[BaseRoute] = [
        Route("/assets/{digest}/{name}", serve_asset),
        Route("/", lambda request: RedirectResponse("/tasks")),
    ]
    # Before the views, whose patterns would take their addresses for names of versions.
    routes += actions.make_routes(pages)
    for path, view in VIEWS.items():
        # A stream has the address of its page, with one word before it.
        routes += [
            Route(path, _make_page(pages, view, find_title=TITLES.get(path))),
            Route(f"/live{path}", _make_stream(pages, view)),
        ]
    return routes


def _make_page(pages: Pages, view: View, *, find_title: FindTitle | None) -> Callable[[Request], object]:
    async def show(request: Request) -> Response:
        try:
            # DuckDB blocks, and a blocked loop would hold up every open stream.
            return await run_in_threadpool(pages.show, request, view, find_title=find_title)
        except WriterGone as error:
            return HTMLResponse(pages.tell_gone(request, error), 503, headers={"Retry-After": "1"})

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
