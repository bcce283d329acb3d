"""What stands before every route: nobody is answered before the log is read, and browsers of named origins may ask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from ops.gateway.access.heads import Heads
from ops.gateway.access.limits import ALIVE, Limits, Turnstile
from ops.gateway.access.watching import Books, Watching
from ops.gateway.behind.catalogue import Catalogue
from ops.gateway.refusals import Overloaded, tell_refusal
from schemas.http import device_protocol as words

# What a device sends, and what it has to see of an answer, beside what browsers allow anyway.
_SENT = (
    "Content-Type",
    "Prefer",
    "Range",
    "Signature",
    "Signature-Input",
    words.LEASE,
    words.REPR_DIGEST,
    words.UPLOAD_OFFSET,
    words.UPLOAD_LENGTH,
    words.UPLOAD_COMPLETE,
)
_SEEN = (
    "ETag",
    "Location",
    "Retry-After",
    words.APPENDED,
    words.CODEC,
    words.RETRY,
    words.UPLOAD_OFFSET,
    words.UPLOAD_LENGTH,
    words.UPLOAD_COMPLETE,
    words.UPLOAD_LIMIT,
)
_METHODS = ("GET", "HEAD", "POST", "PATCH", "DELETE")


@dataclass(frozen=True, slots=True)
class Opening:
    """Lets devices in once the log is read: what is not known before that may well be there."""

    app: ASGIApp
    catalogue: Catalogue

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 503, or pass the request on."""
        is_early = scope["type"] == "http" and scope["path"] != ALIVE
        if is_early and not self.catalogue.is_complete.is_set():
            refusal = tell_refusal(Overloaded("The log is still being read.", code="starting"), closes=True)
            await refusal(scope, receive, send)
        else:
            await self.app(scope, receive, send)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """How the world outside reaches a gateway: pages of which origins, through a proxy or not, and how often."""

    origins: Sequence[str] = ()
    behind_proxy: bool = False
    limits: Limits = field(default_factory=Limits)
    books: Books = field(default_factory=Books)
    # A line a request, for whoever wants to see who asks.
    logs_access: bool = False


def put_gates(app: Starlette, catalogue: Catalogue, *, outside: Outside) -> None:
    """Put them before `app`; pages of no other origins may ask, and without any there is no word of origins."""
    app.add_middleware(Opening, catalogue=catalogue)
    app.add_middleware(Heads)
    app.add_middleware(Turnstile, limits=outside.limits, behind_proxy=outside.behind_proxy)
    app.add_middleware(
        Watching, books=outside.books, logs_access=outside.logs_access, behind_proxy=outside.behind_proxy
    )
    if outside.origins:
        # Outermost, so that a page can read refusals too.
        app.add_middleware(
            CORSMiddleware,
            allow_origins=outside.origins,
            allow_methods=_METHODS,
            allow_headers=_SENT,
            expose_headers=_SEEN,
        )
