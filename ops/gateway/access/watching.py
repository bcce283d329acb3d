"""What a gateway tells about the requests that it gets: figures for Prometheus, and a line each for whoever asks.

Neither has a body, a lease, a token or a key in it, nor the name of anything that one device knows: a route stands
there as the protocol has it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ops.gateway.access.limits import find_address
from ops.gateway.refusals import REFUSED_FOR
from ops.request_books import NO_ROUTE, RequestBooks

# Requests that wait take up to 25 seconds.
SECONDS = (0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 30.0)
METHODS = ("GET", "HEAD", "POST", "PATCH", "DELETE", "OPTIONS")
# How things stand behind a gateway.
FIGURES = {
    "waiting": "Requests that wait for an answer of selector, aggregator or registrar",
    "unacknowledged_bytes": "Taken in, and not acknowledged by Kafka yet",
    "uploads": "Uploads that are known",
    "log_answers": "1 while Kafka takes what comes, 0 while requests are refused for it",
    "limits_shared": "1 while limits are counted where they should be, 0 while Redis is away",
}

logger = structlog.get_logger("fedlog.access")


class Books(RequestBooks):
    """The figures of one gateway."""

    def __init__(self) -> None:
        super().__init__("gateway", until="Until an answer is out", buckets=SECONDS, figures=FIGURES)
        self._refusals = self.instruments.counter("gateway_refusals", "Refusals, by their code", "code")

    def note(self, scope: Scope, status: int, *, seconds: float) -> None:
        """A request that was answered."""
        self.note_answer(find_route(scope), status, seconds=seconds)
        if (code := scope.get(REFUSED_FOR)) is not None:
            self._refusals.labels(code).inc()

    def note_unread(self, code: str) -> None:
        """What was refused before it was a request."""
        self._refusals.labels(code).inc()


@dataclass(frozen=True, slots=True)
class Watching:
    """Notes every answer, also of the gates behind it."""

    app: ASGIApp
    books: Books
    logs_access: bool = False
    behind_proxy: bool = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and note how it went."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status, begun_s = 0, time.monotonic()

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, noting)
        finally:
            seconds = time.monotonic() - begun_s
            self.books.note(scope, status, seconds=seconds)
            if self.logs_access:
                self._log(scope, status, seconds=seconds)

    def _log(self, scope: Scope, status: int, *, seconds: float) -> None:
        told: dict[str, Any] = {"refused_for": code} if (code := scope.get(REFUSED_FOR)) is not None else {}
        logger.info(
            "request",
            method=scope["method"] if scope["method"] in METHODS else "other",
            route=find_route(scope),
            status=status,
            ms=round(seconds * 1000, 1),
            address=find_address(scope, behind_proxy=self.behind_proxy),
            **told,
        )


def find_route(scope: Scope) -> str:
    """The path as the protocol has it: a lease or a digest in it is a device's own affair."""
    return str(getattr(scope.get("route"), "path", NO_ROUTE))
