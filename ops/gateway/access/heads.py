"""Requests whose head says too much, or two things at once: refused before anything else of them is looked at.

Two servers in a row that read one request as two are how requests are smuggled past the first. So whatever could be
read in two ways is read in none.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from starlette.types import ASGIApp, Receive, Scope, Send

from ops.gateway.refusals import Encoded, HeadTooLarge, Refusal, Unreadable, tell_refusal
from schemas.http import device_protocol as words

BYTES_MAX = 16_384
HEADERS_MAX = 64
# What decides how a request is read, or what becomes of it, is said once.
ONCE = frozenset(
    name.lower().encode()
    for name in (
        "Authorization",
        "Content-Encoding",
        "Content-Type",
        "Expect",
        "Host",
        "If-Range",
        "Origin",
        "Range",
        "Transfer-Encoding",
        words.LEASE,
        words.REPR_DIGEST,
        words.UPLOAD_COMPLETE,
        words.UPLOAD_LENGTH,
        words.UPLOAD_OFFSET,
    )
)


@dataclass(frozen=True, slots=True)
class Heads:
    """Passes on requests whose head holds together."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass the request on."""
        try:
            if scope["type"] == "http":
                require_head(scope)
        except Refusal as refusal:
            await tell_refusal(refusal, closes=True)(scope, receive, send)
        else:
            await self.app(scope, receive, send)


def require_head(scope: Scope) -> None:
    """Raises Refusal for a head that is too long, or could be read in two ways."""
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    line_bytes = len(scope["method"]) + len(scope["raw_path"]) + len(scope["query_string"])
    # The server's own limit counts what it waits for: a head that comes at once may be many times as long.
    if line_bytes + sum(len(name) + len(value) + 4 for name, value in headers) > BYTES_MAX:
        raise HeadTooLarge(f"Request line and headers have at most {BYTES_MAX:,} bytes.")
    if len(headers) > HEADERS_MAX:
        raise HeadTooLarge(f"A request has at most {HEADERS_MAX} headers.", code="headers_too_many")
    counts = Counter(name for name, _ in headers)
    if twice := sorted(name.decode("latin-1") for name in ONCE if counts[name] > 1):
        raise Unreadable(f"{', '.join(twice)}: more than once.", code="header_repeated")
    _require_one_length(scope, counts)
    if next((value for name, value in headers if name == b"content-encoding"), b"identity").lower() != b"identity":
        raise Encoded("Send the body as it is: nothing is decompressed here.")


def _require_one_length(scope: Scope, counts: Counter[bytes]) -> None:
    is_chunked = counts[b"transfer-encoding"] > 0
    if is_chunked and (counts[b"content-length"] or scope["http_version"] < "1.1"):
        raise Unreadable("The body has two lengths: send Content-Length or Transfer-Encoding.", code="length_ambiguous")
