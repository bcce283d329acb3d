"""What a server tells Prometheus about the requests that it gets; nothing of who asked, or for what in particular."""

from __future__ import annotations

import time
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ops.request_books import NO_ROUTE, RequestBooks

SECONDS = (0.02, 0.1, 0.5, 2.0, 10.0, 30.0)
FIGURES = {
    "log_answers": "1 while the brokers answer, 0 while pages show what was known before",
    "streams": "Pages and programs that follow what is new",
}


class Books(RequestBooks):
    """The figures of one server."""

    def __init__(self) -> None:
        super().__init__("serve", until="Until an answer begins", buckets=SECONDS, figures=FIGURES)

    def note(self, scope: Scope, status: int, *, seconds: float) -> None:
        """A request whose answer has begun."""
        self.note_answer(find_route(scope), status, seconds=seconds)


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
