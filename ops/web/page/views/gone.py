"""What is shown while the history does not answer: why, and what is wrong with the deployment, which needs none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import htpy as h

from ops.web.page.assets_index import address_of
from ops.web.page.views.system import Alert, draw_alerts

if TYPE_CHECKING:
    from ops.web.site import Concern


def draw_gone(reason: str, concerns: Sequence[Concern]) -> str:
    """The whole document; `concerns` are those that whoever asks may see."""
    alerts = [Alert(concern.tone, concern.what, remedy=concern.remedy) for concern in concerns]
    body = [
        h.p(".verdict.bad", role="alert")[reason],
        h.p(".note")["Load the page again in a moment. Training does not wait for the history."],
        [h.h2["What needs a person"], draw_alerts(alerts)] if alerts else None,
    ]
    return str(
        h.html(lang="en")[
            h.head[
                h.meta(charset="utf-8"),
                h.meta(name="viewport", content="width=device-width, initial-scale=1"),
                h.title["The history does not answer · fedlog"],
                h.link(rel="stylesheet", href=address_of("page.css")),
            ],
            h.body[h.main("#main")[h.section(".card")[h.div(".heading")[h.h1["The history does not answer"]], body]]],
        ]
    )
