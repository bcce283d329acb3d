"""The history at one position: what a view is a function of. Asked twice, it answers the same from memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from ops.history.tables.answers import Question
from ops.history.tables.facts import FACTS
from ops.history.tables.positions import Position
from ops.history.verified import Verified
from ops.web.evidence import Evidence
from ops.web.page.formats import to_ms
from ops.web.reaching import LogState
from ops.web.reading import HistoryReader

if TYPE_CHECKING:
    from ops.web.site import Concern

Row = dict[str, Any]
Rows = list[Row]
ANSWERS_MAX = 2_000
_TABLES = " UNION ALL ".join(f"SELECT max(at_ms) AS at_ms FROM facts.{table.name}" for table in FACTS.values())
_UNTIL = f"SELECT max(at_ms) FROM ({_TABLES})"


class Answers:
    """What was asked lately, by question and position; pages that show the same share it."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[object, ...], Rows] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, key: tuple[object, ...]) -> Rows | None:
        """The answer to a question, if it was asked lately."""
        with self._lock:
            if key in self._kept:
                # The order of the dictionary is that of use, so that the first one is the one to forget.
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def keep(self, key: tuple[object, ...], rows: Rows) -> None:
        """Remember an answer; the one that was not asked for the longest time goes."""
        with self._lock:
            self._kept[key] = rows
            while len(self._kept) > ANSWERS_MAX:
                self._kept.popitem(last=False)


@dataclass(frozen=True, slots=True)
class Moment:
    """A reader and the position to which it is held; `at` is what the address names, empty for now.

    `until_ms` is the append time of the newest record that counts here. `may_change`, `may_fork`, `may_kill`: whoever
    looks is an operator, an admin, and the operator of a demo. `evidence`: the log itself, for operators. `verified`
    and `log`, the note of the last verification and what the log said last, stand outside of time; `count_unread`: how
    many of its offsets the history has not read; `concerns`: what is wrong with the deployment now.
    """

    reader: HistoryReader
    position: Position
    until_ms: int
    at: str = ""
    may_change: bool = False
    may_fork: bool = False
    may_kill: bool = False
    evidence: Evidence | None = None
    verified: Verified | None = None
    log: LogState | None = None
    concerns: Sequence[Concern] = ()
    count_unread: Callable[[], int | None] = lambda: None
    answers: Answers = field(default_factory=Answers)

    @property
    def as_of(self) -> str:
        """As of when the tables are asked."""
        # Several questions of one view must not see the history move between them.
        return self.at or str(self.position)

    def ask(self, sql: str, **parameters: object) -> Rows:
        """The rows of an answer, by column. Raises QueryRefused, WriterGone."""
        return self.ask_all((sql, parameters))[0]

    def ask_all(self, *questions: Question) -> list[Rows]:
        """The rows of several answers. A view that knows its questions asks them together, which is quicker."""
        asked = {self._key(question): question for question in questions}
        found = {key: rows for key in asked if (rows := self.answers.find(key)) is not None}
        missing = [key for key in asked if key not in found]
        answers = self.reader.ask_all([asked[key] for key in missing], as_of=self.as_of) if missing else []
        for key, answer in zip(missing, answers, strict=True):
            found[key] = [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]
            self.answers.keep(key, found[key])
        return [found[self._key(question)] for question in questions]

    def _key(self, question: Question) -> tuple[object, ...]:
        sql, parameters = question
        # The reader is part of it: one of them hides what the other shows.
        return (self.reader, self.position, self.at, sql, *sorted(parameters.items()))

    def ask_one(self, sql: str, **parameters: object) -> Row:
        """The only row; empty where there is none."""
        rows = self.ask(sql, **parameters)
        return rows[0] if rows else {}

    def link(self, path: str, query: Mapping[str, object] | None = None) -> str:
        """An address that stays at this moment."""
        asked = {name: value for name, value in (query or {}).items() if value not in (None, "")}
        # Whoever looks at the past wants to stay there from page to page.
        if self.at:
            asked["at"] = self.at
        return path + (f"?{urlencode(asked)}" if asked else "")

    def link_task(self, task: str) -> str:
        """The page of a task."""
        return self.link(f"/tasks/{quote(task, safe='')}")

    def link_version(self, task: str, version: int) -> str:
        """The page of a version."""
        return self.link(f"/tasks/{quote(task, safe='')}/versions/{version}")

    def link_device(self, device: str) -> str:
        """The page of a device."""
        return self.link(f"/devices/{quote(device, safe='')}")

    def link_record(self, topic: str, *, partition: int, offset: int) -> str:
        """The page of a record of the log."""
        return self.link(f"/records/{quote(topic, safe='')}/{partition}/{offset}")


def find_until_ms(reader: HistoryReader, as_of: str) -> int:
    """The append time of the newest record as of a time, a version or a position. Raises QueryRefused, WriterGone."""
    if Position.parse(as_of) is not None:
        # The list of batches knows it of every position of the last hours, without a look at any fact.
        known = reader.ask("SELECT 1", as_of=as_of).until_ms
        if known is not None:
            return known
    found = reader.ask(_UNTIL, as_of=as_of).rows[0][0]
    try:
        # A time is a moment itself, whether or not anything was appended just then.
        named = datetime.fromisoformat(as_of)
    except ValueError:
        return int(found or 0)
    return min(to_ms(named) or 0, max(int(found or 0), int(reader.ask(_UNTIL).rows[0][0] or 0)))
