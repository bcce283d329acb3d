"""What a server tells Prometheus about the requests that it gets; nothing of who asked, or for what in particular."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from actors.hosts.metrics import PrometheusInstruments

SECONDS = (0.02, 0.1, 0.5, 2.0, 10.0, 30.0)
# A path that is no route of ours may be anything, and would be a name of its own each time.
NO_ROUTE = "none"
FIGURES = {
    "log_answers": "1 while the brokers answer, 0 while pages show what was known before",
    "streams": "Pages and programs that follow what is new",
}


class Books:
    """The figures of one server."""

    def __init__(self) -> None:
        self.instruments = make = PrometheusInstruments()
        self._requests = make.counter("serve_requests", "Answers", "route", "status")
        self._seconds = make.histogram("serve_request_seconds", "Until an answer begins", "route", buckets=SECONDS)
        self._figures = {name: make.gauge(f"serve_{name}", text) for name, text in FIGURES.items()}

    def watch(self, **figures: Callable[[], float]) -> None:
        """Show how things stand, each of `FIGURES` by who knows it."""
        for name, find in figures.items():
            self._figures[name].set_function(find)

    def note(self, scope: Scope, status: int, *, seconds: float) -> None:
        """A request whose answer has begun."""
        route = find_route(scope)
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)


def find_route(scope: Scope) -> str:
    """The path with the names of what stands in it, which may be anything; known once somebody answers for it."""
    if "endpoint" not in scope:
        return NO_ROUTE
    names = {str(value): f"{{{name}}}" for name, value in scope.get("path_params", {}).items()}
    return "/".join(names.get(part, part) for part in str(scope["path"]).split("/"))


@dataclass(frozen=True, slots=True)
class Watching:
    """Notes every answer, also those of the gate behind it."""

    app: ASGIApp
    books: Books

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and note when its answer began, and how."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun_s = time.monotonic()

        async def noting(message: Message) -> None:
            # Its begin, because a stream ends when somebody closes a page.
            if message["type"] == "http.response.start":
                self.books.note(scope, message["status"], seconds=time.monotonic() - begun_s)
            await send(message)

        await self.app(scope, receive, noting)
