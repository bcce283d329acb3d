"""Where somebody logs in: the one page without a frame, for whoever has no token yet."""

from __future__ import annotations

import htpy as h

from ops.web.page.assets_index import address_of


def draw_login(*, problem: str, next_path: str) -> str:
    """The form that takes a token; `problem` says why one was refused."""
    # A field for passwords, so that nobody reads over a shoulder what lets them in.
    form = h.form(".ask", method="post", action="/login")[
        h.p(".verdict.bad", role="alert")[problem] if problem else None,
        h.label["Token", h.input(name="token", type="password", autocomplete="current-password", required=True)],
        h.input(type="hidden", name="next", value=next_path),
        h.div[h.button(".strong")["Log in"]],
        h.p(".note")["A token says who you are and what you may do. To make one, on the machine of the server:"],
        h.pre["fedlog token create --role viewer --subject NAME"],
    ]
    return str(
        h.html(lang="en")[
            h.head[
                h.meta(charset="utf-8"),
                h.meta(name="viewport", content="width=device-width, initial-scale=1"),
                h.meta(name="color-scheme", content="light dark"),
                h.title["Log in · fedlog"],
                h.link(rel="icon", href=address_of("icon.svg"), type="image/svg+xml"),
                h.link(rel="stylesheet", href=address_of("page.css")),
            ],
            h.body[
                h.header(".top")[h.span(".brand")[h.span(".mark", aria_hidden="true")[h.i, h.i, h.i], "fedlog"]],
                h.main("#main")[h.section(".card.login")[h.div(".heading")[h.h1["Log in"]], form]],
            ],
        ]
    )
