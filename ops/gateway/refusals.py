"""Why the gateway refuses, as `application/problem+json` (RFC 9457), each with the window in which to ask again."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping

from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from schemas.errors import EXIT_UNAVAILABLE, FedlogError
from schemas.http.device_protocol import RETRY, Window

MEDIA_TYPE = "application/problem+json"
# Where the scope of a request says why it was refused.
REFUSED_FOR = "fedlog.refused_for"


# After an answer without news; while Kafka or the gateway has too much to do; and where asking again cannot help.
SOON, LATER, NEVER = Window(500, 2_000), Window(2_000, 10_000), Window(60_000, 600_000)


class Refusal(FedlogError):
    """The gateway refuses a request.

    Refusal
     ├── Unreadable    the request cannot be understood
     ├── Unproven      a signature or a lease does not hold
     ├── Expired       a device's certificate, or a token, has run out
     ├── SignatureOld  a signature was made at another time, or has been seen before
     ├── Unknown       there is nothing of that name
     ├── LeaseOver     the lease is over
     ├── RoundOver     the round in which the update could count is over
     ├── TooLarge      more bytes than there may be
     ├── HeadTooLarge  more of them in the request line and the headers
     ├── Encoded       a body inside an encoding that nothing here undoes
     ├── Conflict      the upload is at another place than the request says
     ├── TooOften      an address, a device or a class of devices asks too often
     └── Overloaded    the gateway, or Kafka behind it, cannot take more now
    """

    code = "refused"
    status = 400
    window = NEVER

    def __init__(self, *args: object, code: str = "", headers: Mapping[str, str] | None = None, **told: object) -> None:
        super().__init__(*args)
        if code:
            self.code = code
        # What a protocol asks for beside the problem.
        self.headers: Mapping[str, str] = headers or {}
        # Further members of the problem, for programs.
        self.told: Mapping[str, object] = told


class Unreadable(Refusal):
    """The request cannot be understood."""

    code = "request_unreadable"


class Unproven(Refusal):
    """A signature or a lease does not hold here."""

    code = "not_proven"
    status = 403


class Expired(Refusal):
    """The device's certificate, or the token that it came with, has run out."""

    code = "certificate_expired"
    status = 401


class SignatureOld(Refusal):
    """The request has to be signed anew, now."""

    code = "signature_old"
    status = 401
    window = SOON


class Unknown(Refusal):
    """There is nothing of that name."""

    code = "not_found"
    status = 404
    window = LATER


class LeaseOver(Refusal):
    """The lease is over: check in for another one."""

    code = "lease_over"
    status = 410
    window = SOON


class RoundOver(Refusal):
    """An update from this version cannot count any more: check in for another lease."""

    code = "round_over"
    status = 410
    window = SOON


class TooLarge(Refusal):
    """More bytes than there may be."""

    code = "too_large"
    status = 413


class HeadTooLarge(Refusal):
    """The request line and the headers are longer, or more, than there may be."""

    code = "head_too_large"
    status = 431


class Encoded(Refusal):
    """A body is sent as it is: compressed by its codec, and by nothing around it."""

    code = "content_encoding"
    status = 415


class Conflict(Refusal):
    """The upload stands elsewhere than the request says."""

    code = "conflict"
    status = 409
    window = SOON


class TooOften(Refusal):
    """Too many requests; ask again in the window."""

    code = "too_often"
    status = 429

    def __init__(self, *args: object, window: Window) -> None:
        super().__init__(*args)
        self.window = window


class Overloaded(Refusal):
    """Nothing more can be taken now; ask again in the window."""

    code = "overloaded"
    status = 503
    window = LATER
    exit_code = EXIT_UNAVAILABLE


class Problem(JSONResponse):
    """A refusal as it goes out; whoever counts answers finds its code in the scope of the request."""

    media_type = MEDIA_TYPE

    def __init__(self, told: Mapping[str, object], status: int, *, headers: Mapping[str, str]) -> None:
        super().__init__(told, status, headers=headers)
        self._refused_for = str(told["code"])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        scope[REFUSED_FOR] = self._refused_for
        await super().__call__(scope, receive, send)


def tell_refusal(refusal: Refusal, *, closes: bool = False) -> Problem:
    """The answer; `closes` where a body was not read, which nobody is going to."""
    # Rounded up: a device that comes early is only refused again.
    headers = {
        **refusal.headers,
        RETRY: str(refusal.window),
        "Retry-After": str(math.ceil(refusal.window.min_ms / 1000)),
    }
    # A long body may be on its way: the connection would have to carry all of it first.
    if closes:
        headers["Connection"] = "close"
    title = inspect.cleandoc(type(refusal).__doc__ or "").split("\n\n")[0]
    window = {"min_ms": refusal.window.min_ms, "max_ms": refusal.window.max_ms}
    told = {
        "type": f"urn:fedlog:error:{refusal.code}",
        "status": refusal.status,
        "code": refusal.code,
        "title": title,
        "detail": str(refusal),
        "retry": window,
        **refusal.told,
    }
    return Problem(told, refusal.status, headers=headers)
