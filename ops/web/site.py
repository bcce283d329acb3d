"""What every route may use: the history, what can be changed, and what is new."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from starlette.requests import HTTPConnection

from ops.history.verified import Verified
from ops.web.access.limiting import Places
from ops.web.access.tokens import TokenKey
from ops.web.access.watchers import Watchers
from ops.web.callers import Caller
from ops.web.changes import Changes
from ops.web.evidence import Evidence
from ops.web.operating import Operator
from ops.web.reaching import LogState
from ops.web.reading import HistoryReader


@dataclass(frozen=True, slots=True, kw_only=True)
class Concern:
    """Something that a person should look at: how bad it is (`bad`, `warn`, `quiet`), what it is, and what to do."""

    tone: str
    what: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One server. `reader` sees all that the history holds, `hidden` what anybody may see.

    `hosts`: the names under which it may be asked. `evidence`: the log itself, for what is proven and not told. `kill`:
    ends the aggregator of a demo, and says what it did. `find_verified`: the note of the last verification. `find_log`:
    what the log said last. `list_concerns`: what is wrong with the deployment, for operators.
    """

    reader: HistoryReader
    hidden: HistoryReader
    operator: Operator
    changes: Changes
    tokens: TokenKey
    hosts: frozenset[str]
    deployment: str = ""
    evidence: Evidence | None = None
    kill: Callable[[], str] | None = None
    find_verified: Callable[[], Verified | None] = lambda: None
    find_log: Callable[[], LogState | None] = lambda: None
    list_concerns: Callable[[], Sequence[Concern]] = lambda: ()
    watchers: Watchers = field(default_factory=Watchers)
    # Each is a whole model in memory until its client has it.
    downloads: Places = field(default_factory=lambda: Places(each_max=2, all_max=4))

    def count_unread(self) -> int | None:
        """How many offsets of the log the history has not read; None where that is not known. Raises WriterGone."""
        log = self.find_log()
        return None if log is None else log.count_unread(self.reader)

    def reader_for(self, caller: Caller) -> HistoryReader:
        """The history as this caller may see it."""
        # Asked for by what a caller may do: what is added later to the roles keeps its meaning.
        return self.reader if caller.may("operator") else self.hidden


def find_site(request: HTTPConnection) -> Site:
    """The site of a request."""
    site = request.app.state.site
    assert isinstance(site, Site)
    return site
