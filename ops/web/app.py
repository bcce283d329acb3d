"""The application: the API, the page, and the gate before both."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from importlib import metadata

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from ops.web.access import sessions
from ops.web.access.gate import Gate
from ops.web.access.watching import Books, Watching
from ops.web.api import make_router
from ops.web.api.streams import Feed, Feeds
from ops.web.page.routes import make_routes
from ops.web.problems import Problem, RequestRefused, problem_of, tell_error
from ops.web.site import Site
from schemas.errors import FedlogError


def make_app(site: Site, books: Books | None = None) -> FastAPI:
    """Everything that the server answers; `books` counts it."""
    # No pages of documentation: theirs load scripts from elsewhere.
    app = FastAPI(
        title="fedlog",
        version=metadata.version("fedlog"),
        summary="Federated learning on a log: tasks, and everything that happened to them.",
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/v1/openapi.json",
        lifespan=_watch,
    )
    app.state.site = site
    app.state.feeds = Feeds(Feed(site.reader), Feed(site.hidden))
    app.include_router(make_router())
    # The page comes last, so that none of its routes can hide one of the API.
    app.router.routes.extend(sessions.make_routes())
    app.router.routes.extend(make_routes(site))
    app.add_exception_handler(FedlogError, tell_error)
    app.add_exception_handler(HTTPException, _tell_http)
    app.add_exception_handler(RequestValidationError, _tell_invalid)
    app.add_exception_handler(Exception, _tell_unexpected)
    app.add_middleware(Gate, tokens=site.tokens, hosts=site.hosts)
    # Outermost, so that what the gate refuses is counted too.
    app.add_middleware(Watching, books=books or Books())
    return app


@contextlib.asynccontextmanager
async def _watch(app: FastAPI) -> AsyncIterator[None]:
    # One watcher for the whole server, however many streams are open.
    watching = asyncio.create_task(app.state.site.changes.watch())
    try:
        yield
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching


def _tell_http(request: Request, error: Exception) -> JSONResponse:
    del request
    assert isinstance(error, HTTPException)
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "request_invalid")
    problem = Problem(status=error.status_code, code=code, title=str(error.detail), detail=str(error.detail))
    return problem.to_response(error.headers)


def _tell_invalid(request: Request, error: Exception) -> JSONResponse:
    del request
    assert isinstance(error, RequestValidationError)
    # Where and why, without what was sent: that may be anything.
    found = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
    return problem_of(RequestRefused("; ".join(found[:20]))).to_response()


def _tell_unexpected(request: Request, error: Exception) -> JSONResponse:
    del request
    # Its name alone: the text may hold what nobody outside should read.
    detail = f"An error that fedlog does not expect: {type(error).__name__}. The server's log has more."
    return Problem(status=500, code="unexpected", title="A fault of the server", detail=detail).to_response()
