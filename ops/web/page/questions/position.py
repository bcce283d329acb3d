"""Places to go back to: the moments that a slider offers. Idle time is squeezed, because versions set its pace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from ops.history.tables.answers import Question
from ops.web.page.moment import Moment

STOPS_MAX = 400
BETWEEN = 4

_PUBLISHED = """
    SELECT task, version, at_ms FROM facts.model_published WHERE $task = '' OR task = $task
    QUALIFY row_number() OVER (ORDER BY at_ms, task) % (1 + count(*) OVER () // $stops) = 0 ORDER BY at_ms"""
_BEGUN = "SELECT min(at_ms) AS at_ms FROM facts.writer_claimed"


@dataclass(frozen=True, slots=True)
class Stop:
    """A moment of the slider; `version` where one was published just then."""

    time_ms: int
    version: int | None = None


def ask_for_stops(task: str = "") -> list[Question]:
    """What `list_stops` asks, for a view that asks it together with more."""
    return [(_PUBLISHED, {"task": task, "stops": STOPS_MAX // BETWEEN}), (_BEGUN, {})]


def list_stops(moment: Moment, task: str = "") -> Sequence[Stop]:
    """The stops of a slider from the first publication until now, of a task or of all, in the order of time."""
    found, [first] = moment.ask_all(*ask_for_stops(task))
    begun = first["at_ms"]
    if begun is None:
        return []
    # Before the first writer there is no history to go back to.
    stops = [Stop(begun), *(Stop(row["at_ms"], row["version"]) for row in found if row["at_ms"] > begun)]
    if moment.until_ms > stops[-1].time_ms:
        stops.append(Stop(moment.until_ms))
    full: list[Stop] = []
    for stop, later in pairwise(stops):
        full.append(stop)
        gap = later.time_ms - stop.time_ms
        # Between two versions a few moments more, for whoever wants to see a buffer fill.
        full += [Stop(stop.time_ms + gap * part // BETWEEN) for part in range(1, BETWEEN) if gap >= BETWEEN]
    return [*full, stops[-1]]
