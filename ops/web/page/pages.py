"""The views of one site: which moment somebody asks for, what a view says of it, and the stream of what is new."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from starlette.responses import HTMLResponse, Response, StreamingResponse

from ops.history.tables.answers import QueryRefused
from ops.history.tables.positions import Position
from ops.history.tables.serving import WriterGone
from ops.web.callers import find_caller
from ops.web.changes import parse_last_event_id
from ops.web.page.layout import Frame, Page, begin_page, end_page, render_page
from ops.web.page.live import Renderings, Sections, Stream
from ops.web.page.moment import Answers, Moment, find_until_ms
from ops.web.page.questions.position import Stop, list_stops
from ops.web.page.views.gone import draw_gone
from ops.web.page.views.parts import show_nothing, show_problem

if TYPE_CHECKING:
    from starlette.requests import Request

    from ops.web.site import Site

HTML = "text/html; charset=utf-8"
# A view gets all that an address says, by name; None says that there is nothing of that name.
View = Callable[[Moment, Mapping[str, str]], Page | None]
# Of a view that takes long: its title, known at once, or None where there is nothing of that name.
FindTitle = Callable[[Moment, Mapping[str, str]], str | None]


@dataclass(frozen=True, slots=True)
class Pages:
    """The views of one site, and what they remember of the last questions."""

    site: Site
    answers: Answers = field(default_factory=Answers)
    renderings: Renderings = field(default_factory=Renderings)

    def make_moment(self, request: Request, *, at: str = "", position: Position | None = None) -> Moment:
        """The history for whoever asks; now, unless a time or a position is named. Raises QueryRefused, WriterGone."""
        caller = find_caller(request)
        # What a viewer may not see never reaches a view.
        reader = self.site.reader_for(caller)
        position = position or reader.position
        until_ms = find_until_ms(reader, at or str(position))
        may_change = caller.may("operator")
        return Moment(
            reader,
            position,
            until_ms,
            at=at,
            may_change=may_change,
            may_fork=caller.may("admin"),
            may_kill=may_change and self.site.kill is not None,
            # A state holds what only operators may see.
            evidence=self.site.evidence if may_change else None,
            verified=self.site.find_verified(),
            log=self.site.find_log(),
            # They name files, and what of the brokers' rights is open.
            concerns=self.site.list_concerns() if may_change and not at else (),
            count_unread=self.site.count_unread,
            answers=self.answers,
        )

    def show(self, request: Request, view: View, *, find_title: FindTitle | None = None) -> Response:
        """The whole document; where `find_title` finds one its frame goes ahead, to be painted meanwhile."""
        at, asked = request.query_params.get("at", ""), read_asked(request)
        try:
            moment = self.make_moment(request, at=at)
            if find_title is not None and (title := find_title(moment, asked)) is not None:
                return StreamingResponse(self._write(request, view, title=title, moment=moment), media_type=HTML)
            page = view(moment, asked)
        except QueryRefused as error:
            # What was mistyped in an address is told on a page, from which people go on.
            page, at = show_problem("There is no such moment", str(error)), ""
            moment = self.make_moment(request)
        page = page or show_nothing()
        return self.respond(request, page, moment=moment, stops=self._list_stops(request, page, moment=moment))

    def _write(self, request: Request, view: View, *, title: str, moment: Moment) -> Iterator[str]:
        """The same by parts."""
        frame = self._make_frame(request, moment)
        yield begin_page(title, "/" + request.url.path.split("/")[1], frame=frame)
        try:
            page = view(moment, read_asked(request)) or show_nothing()
            stops = self._list_stops(request, page, moment=moment)
        except (QueryRefused, WriterGone) as error:
            # The status has been sent: what is wrong stands where the view would.
            page, stops = show_problem("The history does not answer", f"{error} Load the page again."), None
        yield end_page(page, dataclasses.replace(frame, stops=stops))

    def _list_stops(self, request: Request, page: Page, *, moment: Moment) -> Sequence[Stop]:
        # The slider leads forward again too, so that its stops are those of now.
        return list_stops(self.make_moment(request) if moment.at else moment, page.task)

    def respond(self, request: Request, page: Page, *, moment: Moment, stops: Sequence[Stop] | None = None) -> Response:
        """A page in its frame; without `stops` one that stands outside of time, as a question does."""
        frame = dataclasses.replace(self._make_frame(request, moment), stops=stops)
        return HTMLResponse(render_page(page, frame), page.status)

    def tell_gone(self, request: Request, error: WriterGone) -> str:
        """The document in the place of one for which there is no history."""
        return draw_gone(str(error), self.site.list_concerns() if find_caller(request).may("operator") else ())

    def _make_frame(self, request: Request, moment: Moment) -> Frame:
        caller = find_caller(request)
        return Frame(
            moment=moment,
            path=request.url.path,
            query=dict(request.query_params),
            deployment=self.site.deployment,
            subject=caller.subject,
            csrf=caller.csrf,
        )

    async def follow(self, request: Request, view: View) -> Response:
        """The stream of a page. Raises RateExceeded."""
        caller = find_caller(request)
        asked = read_asked(request)

        def render(position: Position) -> Sections:
            key = (request.url.path, *sorted(asked.items()), caller.role, position)
            return self.renderings.find(key, lambda: draw(position))

        def draw(position: Position) -> Sections:
            page = view(self.make_moment(request, position=position), asked)
            # What is gone from here shows nothing new; a page that was never there has no stream.
            return {} if page is None else {one.id: one.render(is_exchanged=True) for one in page.sections}

        stream = Stream(self.site.changes, render)
        messages = self.site.watchers.admit(caller, stream.follow(parse_last_event_id(request)))
        return StreamingResponse(messages, media_type="text/event-stream")


def read_asked(request: Request) -> dict[str, str]:
    """What an address asks for: its query, and what its path names, which no query can override."""
    return {**request.query_params, **{name: str(value) for name, value in request.path_params.items()}}
