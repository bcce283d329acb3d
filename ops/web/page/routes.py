"""The routes of the page."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

    from ops.web.site import Site


def make_routes(site: Site) -> list[BaseRoute]:
    """Every route of the page."""
    del site
    return []


def render_login(*, problem: str = "", next_path: str = "/") -> str:
    """The form that takes a token; `problem` says why one was refused."""
    # No script and no file of its own: it is what a stranger sees.
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>fedlog: log in</title>'
        f'<form method="post" action="/login"><p role="alert">{escape(problem)}</p>'
        '<label>Token <input name="token" type="password" autocomplete="off" required autofocus></label>'
        f'<input type="hidden" name="next" value="{escape(next_path)}"><button>Log in</button>'
        "<p><code>fedlog token create --role viewer --subject NAME</code> makes one.</p></form></html>"
    )
