"""How far the answers of a measure task have moved, as `fedlog drift` asks the log, by the rules of the aggregator.

What is published is enough for it, so that anybody can look, also at versions and bounds that no policy names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from actors.deciders.arithmetic.drifting import MILLION, Histogram, compare, find_noise
from actors.deciders.drifting.judging import Distance, find_bound
from actors.effects.watching.drifting import Answers, list_distances, tell_distances
from ops.history.task_view import TaskView
from ops.operator import models
from schemas.errors import EXIT_USAGE, FedlogError
from schemas.identifiers import Version
from schemas.policy import Drift
from streams.log import EventLog


class Incommensurable(FedlogError):
    """Two histograms cannot be compared; the message says why."""

    exit_code = EXIT_USAGE
    code = "incommensurable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A cohort (empty: all) of one version beside its reference: both distances, and up to where each is chance."""

    version: Version
    kind: str
    cohort: str
    psi: float
    ks: float
    psi_by_chance: float
    ks_by_chance: float
    is_drift: bool

    def to_json(self) -> dict[str, Any]:
        """The same as one JSON object."""
        return asdict(self)


def compare_version(
    view: TaskView, answers: Answers, *, version: Version, reference: Answers | None, asked: Drift
) -> Iterator[Comparison]:
    """Each comparison that there is of one version. Raises Incommensurable."""
    assert view.created is not None
    yield from _pair(list_distances(view.created, asked, answers=answers, reference=reference), version, asked=asked)


def compare_counts(reference: Histogram, now: Histogram, *, version: Version, asked: Drift) -> Comparison | None:
    """The same of two histograms of all devices that are at hand; None where one of them says nothing."""
    return next(_pair(tell_distances("drift", "", found=compare(reference, now)), version, asked=asked), None)


def _pair(found: Iterable[Distance], version: Version, *, asked: Drift) -> Iterator[Comparison]:
    distances = [*found]
    # PSI and KS of one comparison come one after the other.
    for psi, ks in zip(distances[::2], distances[1::2], strict=True):
        yield Comparison(
            version=version,
            kind=psi.kind,
            cohort=psi.cohort,
            psi=psi.value / MILLION,
            ks=ks.value / MILLION,
            psi_by_chance=psi.by_chance / MILLION,
            ks_by_chance=ks.by_chance / MILLION,
            is_drift=any(_is_beyond(each, asked) for each in (psi, ks)),
        )


def read_answers(log: EventLog, view: TaskView, *, version: Version, asked: Drift) -> Answers:
    """A version of a measure task. Raises VersionUnknown, ModelGone, Incommensurable."""
    created = view.created
    # Asked by people, who misspell names, and of tasks that measure nothing.
    measure = created.policy.measure if created else None
    if created is None or measure is None or asked.statistic not in measure.statistics:
        has = "measures nothing" if measure is None else f"answers {', '.join(measure.statistics)}"
        raise Incommensurable(f"{view.task!r} {has}: {asked.statistic!r} is no statistic of it.")
    # The body and not a fold: what is published is all that anybody needs.
    published = view.published[models.choose_version(view, version)]
    vector = models.read(log, published.model, parameters=created.parameters)
    return Answers(vector=vector, members=published.members, noise=find_noise(created.policy, asked.statistic))


def _is_beyond(distance: Distance, asked: Drift) -> bool:
    # The same two conditions as the aggregator's, on bounds that nobody has signed.
    bound = find_bound(asked, distance)
    return bound is not None and distance.value >= bound and distance.value > distance.by_chance
