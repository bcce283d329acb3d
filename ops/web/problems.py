"""Errors as an API tells them: `application/problem+json` (RFC 9457), with the words of the console."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from starlette.requests import Request
from starlette.responses import JSONResponse

from schemas.errors import EXIT_LOST, EXIT_UNAVAILABLE, EXIT_USAGE, FedlogError

MEDIA_TYPE = "application/problem+json"
# By the code of an error, where its exit code says too little.
_STATUS_OF_CODE: Mapping[str, int] = {
    "unauthenticated": 401,
    "not_allowed": 403,
    "forged_request": 403,
    "task_unknown": 404,
    "version_unknown": 404,
    "nothing_promoted": 404,
    "not_found": 404,
    "position_not_reached": 412,
    "body_too_large": 413,
    "foreign_host": 421,
    "rate_exceeded": 429,
    "writer_gone": 503,
}
_STATUS_OF_EXIT: Mapping[int, int] = {EXIT_USAGE: 422, EXIT_UNAVAILABLE: 503, EXIT_LOST: 410}
# What the answer is no to: a name that is taken, a task that is over.
_STATUS_ELSE = 409


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What went wrong; `code` is the error's own, and `exit_code` the one that a command would end with."""

    status: int
    code: str
    title: str
    detail: str
    exit_code: int | None = None

    def to_response(self, headers: Mapping[str, str] | None = None) -> JSONResponse:
        """The answer."""
        told = {"type": f"urn:fedlog:error:{self.code}", **asdict(self)}
        return JSONResponse(told, self.status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


class RequestRefused(FedlogError):
    """The request cannot be understood."""

    exit_code = EXIT_USAGE
    code = "request_invalid"


def problem_of(error: FedlogError) -> Problem:
    """How an error of ours is told."""
    status = _STATUS_OF_CODE.get(error.code) or _STATUS_OF_EXIT.get(error.exit_code, _STATUS_ELSE)
    # A title is the same for every error of a kind; what happened is the detail.
    title = inspect.cleandoc(type(error).__doc__ or "").split("\n\n")[0]
    return Problem(status=status, code=error.code, title=title, detail=str(error), exit_code=error.exit_code)


def tell_error(request: Request, error: Exception) -> JSONResponse:
    """The answer to a request that ended in an error of ours."""
    del request
    assert isinstance(error, FedlogError)
    # A browser asks for a password where this says Basic; a token is sent by a program, or by our own form.
    headers = {"WWW-Authenticate": "Bearer"} if error.code == "unauthenticated" else {}
    return problem_of(error).to_response({**headers, **getattr(error, "headers", {})})
