"""The frame around every view: head, navigation, the slider of time, and the sections of the view itself."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import htpy as h

from ops.web.page.assets_index import address_of
from ops.web.page.formats import format_moment, format_time
from ops.web.page.moment import Moment
from ops.web.page.questions.position import Stop

NAVIGATION = (
    ("Tasks", "/tasks", "t"),
    ("Events", "/events", "e"),
    ("Devices", "/devices", "d"),
    ("Privacy", "/privacy", "p"),
    ("System", "/system", "s"),
)
SHORTCUTS = (
    ("?", "show these keys, and hide them"),
    ("g, then t e d p s", "go to tasks, events, devices, privacy, system"),
    ("[ and ]", "one stop back in time, one forward"),
    ("n", "back to now"),
    ("Esc", "close what is open"),
)
_END = "</body></html>"
# Attributes that people change in the browser stay as they left them when a section is exchanged.
HTMX = {
    "morphIgnore": ["data-htmx-powered", "open", "data-ago"],
    "includeIndicatorCSS": False,
    "history": False,
    "sse": {"reconnectDelay": 400, "reconnectMaxDelay": 1500, "connectTimeout": 5000},
}


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a page that is exchanged as a whole: its id, its heading, and what it shows. `kind`: its width."""

    id: str
    title: str
    body: h.Node
    kind: str = ""
    aside: h.Node = None

    def render(self, *, is_exchanged: bool = False) -> str:
        """As HTML. `is_exchanged`: to take the place of the one that a page has."""
        # Morphing keeps what the reader has: focus, selection, scroll position, an opened table.
        swap = {"hx-swap-oob": "outerMorph"} if is_exchanged else {}
        heading = h.div(".heading")[h.h2(id=f"{self.id}-title")[self.title], self.aside] if self.title else None
        named = {"aria-labelledby": f"{self.id}-title"} if self.title else {"aria-label": self.id}
        return str(
            h.section({"id": self.id, "class": f"card {self.kind}".strip(), **named, **swap})[heading, self.body]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What a view gives: a title, the part of the navigation that it belongs to, its sections, and its task if any."""

    title: str
    area: str
    sections: Sequence[Section]
    task: str = ""
    status: int = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What surrounds a view: who looks, at which address, when, and where one can go in time: None for nowhere."""

    moment: Moment
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    deployment: str = ""
    subject: str = ""
    csrf: str = ""
    stops: Sequence[Stop] | None = ()


def render_page(page: Page, frame: Frame) -> str:
    """The whole document."""
    return "".join([begin_page(page.title, page.area, frame=frame), end_page(page, frame)])


def begin_page(title: str, area: str, *, frame: Frame) -> str:
    """The document down to where its view begins, which a browser paints while the view is being asked for."""
    body = h.body({"hx-headers": json.dumps({"X-CSRF-Token": frame.csrf})})[
        h.a(".skip", href="#main")["Skip to content"],
        _draw_top(area, frame),
        # It stands there from the beginning, or a screen reader would not hear what comes into it.
        h.div("#reach.banner", role="status", aria_live="polite"),
    ]
    return str(h.html(lang="en")[_draw_head(title), body]).removesuffix(_END)


def end_page(page: Page, frame: Frame) -> str:
    """The rest of it."""
    from markupsafe import Markup

    # Sections are rendered one by one, so that page and stream send the same bytes.
    sections = [Markup(section.render()) for section in page.sections]  # noqa: S704 - rendered by htpy just now
    # A view that does not begin with a large title is named to whoever hears it.
    heading = None if page.sections[0].id == "lead" else h.h1(".unseen")[page.title]
    rest = h.fragment[
        _draw_slider(frame, frame.stops) if frame.stops is not None else None,
        h.main("#main", tabindex="-1")[heading, sections],
        _draw_keys(),
        None if frame.moment.at or frame.stops is None else _draw_stream(frame),
    ]
    # Joined, because markup that is added to escapes what it is given.
    return "".join([str(rest), _END])


def _draw_head(title: str) -> h.Element:
    return h.head[
        h.meta(charset="utf-8"),
        h.meta(name="viewport", content="width=device-width, initial-scale=1"),
        # The browser paints the right background before the style is there.
        h.meta(name="color-scheme", content="light dark"),
        h.title[f"{title} · fedlog"],
        h.link(rel="icon", href=address_of("icon.svg"), type="image/svg+xml"),
        h.link(rel="stylesheet", href=address_of("page.css")),
        h.meta(name="htmx-config", content=json.dumps(HTMX)),
        (h.script(src=address_of(name), defer=True) for name in ("htmx.min.js", "hx-sse.min.js", "page.js")),
    ]


def _draw_top(area: str, frame: Frame) -> h.Element:
    return h.header(".top")[
        h.a(".brand", href=frame.moment.link("/tasks"), aria_label="fedlog: all tasks")[
            h.span(".mark", aria_hidden="true")[h.i, h.i, h.i], "fedlog"
        ],
        h.nav(aria_label="Views")[
            (
                h.a(
                    href=frame.moment.link(path),
                    data_key=key,
                    # What is seen by its colour is said, too.
                    aria_current="page" if area == path else None,
                )[name]
                for name, path, key in NAVIGATION
            )
        ],
        h.span(".who")[
            h.span(".deployment", title="deployment")[frame.deployment] if frame.deployment else None,
            h.button("#keys-open", type="button", aria_label="Keys", title="Keys (?)")["?"],
            h.form(method="post", action="/logout")[
                h.input(type="hidden", name="csrf", value=frame.csrf),
                h.button(type="submit", title=f"logged in as {frame.subject}")["Log out"],
            ]
            if frame.subject
            else None,
        ],
    ]


def _draw_slider(frame: Frame, stops: Sequence[Stop]) -> h.Node:
    """A range of stops for those with script; a field and links for all. It asks for the same page at another time."""
    moment = frame.moment
    # The other filters of a page stay when one goes through time.
    kept = {name: value for name, value in frame.query.items() if name != "at"}
    now = h.a("#to-now", href=frame.path + _join(kept), title="Back to now (n)")["Back to now"]
    last = len(stops) - 1
    # Between two stops the handle stands at the one before.
    here = max((number for number, stop in enumerate(stops) if stop.time_ms <= moment.until_ms), default=last)
    where = here if moment.at else last
    # One attribute for all stops: an element each would be half of the page.
    packed = ";".join(
        f"{format_moment(stop.time_ms)}{'' if stop.version is None else f'@{stop.version}'}" for stop in stops
    )
    return h.form(".slider", method="get", action=frame.path, data_past=bool(moment.at), aria_label="Time")[
        (h.input(type="hidden", name=name, value=value) for name, value in kept.items()),
        h.span("#state.live" if not moment.at else "#state.past")[
            h.span(".dot", aria_hidden="true"), h.b["Live" if not moment.at else "Past"]
        ],
        h.label[
            h.span(".unseen")["As of"],
            h.input(
                "#stops",
                type="range",
                min=0,
                max=max(last, 0),
                value=max(where, 0),
                data_stops=packed,
                aria_valuetext=f"{format_time(moment.until_ms)} UTC",
                disabled=last < 1,
            ),
        ],
        h.output("#when")[h.time(datetime=format_moment(moment.until_ms))[format_time(moment.until_ms)], " UTC"],
        h.noscript[h.input(name="at", aria_label="As of", placeholder="TASK@VERSION or a time"), h.button["Go"]],
        now if moment.at else None,
    ]


def _join(query: Mapping[str, str]) -> str:
    from urllib.parse import urlencode

    return f"?{urlencode(query)}" if query else ""


def _draw_keys() -> h.Element:
    return h.dialog("#keys", aria_labelledby="keys-title")[
        h.h2("#keys-title")["Keys"],
        h.dl[([h.dt[h.kbd[keys]], h.dd[text]] for keys, text in SHORTCUTS)],
        h.form(method="dialog")[h.button["Close"]],
    ]


def _draw_stream(frame: Frame) -> h.Element:
    """Where new sections arrive; it shows nothing itself."""
    # A page of the past never changes, so that it has no stream.
    address = f"/live{frame.path}{_join(dict(frame.query))}"
    return h.div("#stream", {"hx-sse:connect": address, "hx-swap": "none"}, hidden=True)
