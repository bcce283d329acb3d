"""The gate before every route: which host is asked, how often and by whom, and whether a page of ours sent it.

It stands before the routes and not in them, so that a new route is closed until somebody opens it here.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Mapping
from functools import partial
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ops.web.access.limiting import Limiter
from ops.web.access.tokens import TokenKey
from ops.web.callers import Caller, Unauthenticated
from ops.web.page.routes import render_login
from ops.web.problems import RequestRefused, tell_error
from schemas.errors import FedlogError

COOKIE = "fedlog_session"
CSRF_FIELD, CSRF_HEADER = "csrf", "x-csrf-token"
BODY_BYTES_MAX = 1 << 20
LOGIN_BYTES_MAX = 1 << 14  # a token and where to go
BODY_WAIT_S = 30.0
SAFE = {"GET", "HEAD", "OPTIONS"}
# What a person needs who has no token yet.
LOGIN_PATH = "/login"
OPEN_PATHS, OPEN_PREFIX = {LOGIN_PATH}, "/assets/"
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; object-src 'none'; "
        "base-uri 'none'; frame-ancestors 'none'; form-action 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class ForeignHost(FedlogError):
    """The request names a host that this server is not."""

    code = "foreign_host"


class ForgedRequest(FedlogError):
    """The request changes something, and no page of this server sent it."""

    code = "forged_request"


class BodyTooLarge(FedlogError):
    """The body of a request has at most 1 MiB, that of a login 16 KiB."""

    code = "body_too_large"


class Gate:
    """Lets a request through to `app` once it is known who sent it; answers the others itself."""

    def __init__(self, app: ASGIApp, *, tokens: TokenKey, hosts: frozenset[str]) -> None:
        self._app, self._tokens, self._hosts = app, tokens, hosts
        self._by_address = Limiter(100, burst=400)
        self._by_subject = Limiter(50, burst=200)
        # Whoever tries tokens pays for each one with a signature of ours to check.
        self._by_stranger = Limiter(1, burst=20)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        request, send = Request(scope, receive), _add_headers(send)
        try:
            body = await self._check(request)
        except FedlogError as error:
            await _refuse(request, error)(scope, receive, send)
            return
        await self._app(scope, receive if body is None else _replay(body, receive), send)

    async def _check(self, request: Request) -> bytes | None:
        """The body that was read, None for none; the caller is in the request's state. Raises FedlogError."""
        address = request.client.host if request.client else ""
        self._by_address.take(address)
        _require_host(request, self._hosts)
        path = request.url.path
        is_open = path in OPEN_PATHS or path.startswith(OPEN_PREFIX)
        if path == LOGIN_PATH and (request.method not in SAFE or "token" in request.query_params):
            # Before the token is looked at: whoever has tried too many is not told of the next one.
            self._by_stranger.check(address)
            request.state.note_stranger = partial(self._by_stranger.take, address)
        # Before the body: a stranger's is nothing to keep in memory, but for a token to log in with.
        caller = None if is_open else self._admit(request, address)
        if request.method in SAFE:
            return None
        _require_own_origin(request)
        body = await _read_body(request, LOGIN_BYTES_MAX if caller is None else BODY_BYTES_MAX)
        if caller is not None:
            if _find_bearer(request) is None:
                _require_csrf(request, body, caller=caller)
            # One place for all routes: whoever only looks sends nothing that changes anything.
            if path != "/logout":
                caller.require("operator")
        return body

    def _admit(self, request: Request, address: str) -> Caller:
        caller = self._identify(request, address)
        self._by_subject.take(caller.subject)
        request.state.caller = caller
        return caller

    def _identify(self, request: Request, address: str) -> Caller:
        token = _find_bearer(request) or request.cookies.get(COOKIE)
        if token is None:
            raise Unauthenticated
        try:
            return self._tokens.read(token)
        except Unauthenticated:
            self._by_stranger.take(address)
            raise


def _find_bearer(request: Request) -> str | None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    # An empty one is none: the cookie would count, and nobody would ask for what only our own forms know.
    return (token.strip() or None) if scheme.lower() == "bearer" else None


def _require_host(request: Request, hosts: frozenset[str]) -> None:
    # A foreign page whose name was made to lead here (DNS rebinding) still names itself.
    try:
        name = urlsplit(f"//{request.headers.get('host', '')}").hostname
    except ValueError:
        name = None
    if name not in hosts:
        raise ForeignHost


def _require_own_origin(request: Request) -> None:
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
    if origin is not None and urlsplit(origin).netloc.lower() != request.headers.get("host", "").lower():
        raise ForgedRequest
    if site not in (None, "same-origin", "none"):
        raise ForgedRequest


def _require_csrf(request: Request, body: bytes, *, caller: Caller) -> None:
    given = request.headers.get(CSRF_HEADER)
    if given is None and request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        given = parse_qs(body.decode("utf-8", "replace"), max_num_fields=200).get(CSRF_FIELD, [""])[0]
    # A browser sends the cookie whoever wrote the form; only a page of ours knows this.
    if not hmac.compare_digest((given or "").encode(), caller.csrf.encode()):
        raise ForgedRequest


async def _read_body(request: Request, bytes_max: int) -> bytes:
    parts, size = [], 0
    try:
        async with asyncio.timeout(BODY_WAIT_S):
            async for part in request.stream():
                size += len(part)
                # Counted as it comes: what a header says of the length proves nothing.
                if size > bytes_max:
                    raise BodyTooLarge
                parts.append(part)
    except TimeoutError as error:
        raise RequestRefused(f"The body did not arrive within {BODY_WAIT_S:g} s.") from error
    return b"".join(parts)


def _replay(body: bytes, receive: Receive) -> Receive:
    is_given = False

    async def give() -> Message:
        nonlocal is_given
        if is_given:
            return await receive()
        is_given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return give


def _add_headers(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            # What is behind a token is nobody else's; a route says where that is otherwise.
            headers.setdefault("Cache-Control", "no-store")
        await send(message)

    return send_with_headers


def _refuse(request: Request, error: FedlogError) -> Response:
    is_person = request.method == "GET" and "text/html" in request.headers.get("accept", "")
    if isinstance(error, Unauthenticated) and is_person:
        target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return HTMLResponse(render_login(next_path=target), 401, headers={"WWW-Authenticate": "Bearer"})
    return tell_error(request, error)
