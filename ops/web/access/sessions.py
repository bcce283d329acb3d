"""Log in and out with a browser: a token goes in, and a cookie that no script and no other site can use comes out."""

from __future__ import annotations

from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from ops.web.access.gate import COOKIE
from ops.web.callers import Unauthenticated
from ops.web.page.routes import render_login
from ops.web.site import find_site


def make_routes() -> list[BaseRoute]:
    """`/login` and `/logout`."""
    return [
        Route("/login", _show_login, methods=["GET"]),
        Route("/login", _log_in, methods=["POST"]),
        Route("/logout", _log_out, methods=["POST"]),
    ]


def _show_login(request: Request) -> Response:
    target = _find_target(request.query_params.get("next", "/"))
    # The link that `fedlog run` prints, for whoever sits at its terminal; the address that stays is the one after it.
    if token := request.query_params.get("token", ""):
        return _let_in(request, token, target=target)
    return HTMLResponse(render_login(next_path=target))


async def _log_in(request: Request) -> Response:
    fields = parse_qs((await request.body()).decode("utf-8", "replace"), max_num_fields=10)
    return _let_in(request, fields.get("token", [""])[0].strip(), target=_find_target(fields.get("next", ["/"])[0]))


def _let_in(request: Request, token: str, *, target: str) -> Response:
    try:
        find_site(request).tokens.read(token)
    except Unauthenticated as error:
        # Counted as a token that a program tries: this form is no way around.
        request.state.note_stranger()
        return HTMLResponse(render_login(problem=str(error), next_path=target), 401)
    response = RedirectResponse(target, 303)
    # Strict: a link on another site opens the page as a stranger's.
    response.set_cookie(COOKIE, token, httponly=True, samesite="strict", secure=request.url.scheme == "https", path="/")
    return response


def _log_out(request: Request) -> Response:
    del request
    response = RedirectResponse("/login", 303)
    # The token itself goes on until its time is over; what is forgotten is this browser's copy.
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
    return response


def _find_target(text: str) -> str:
    # A path of this server: `//elsewhere` and `/\\elsewhere` would lead a browser away.
    is_own = text.startswith("/") and not text.startswith(("//", "/\\")) and text.isprintable()
    return text if is_own else "/"
