"""What is said of drift, told from the topics alone: from the bodies of versions, in plain floats, by other code.

Far enough from a bound that floats cannot disagree, whatever is beyond is found, once a version, and nothing else is.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from msgspec import UNSET

from schemas.events import DriftEnded, DriftFound, ModelPublished, Noticed, TaskCreated
from schemas.tensors import BodyError, unpack
from streams.bodies import BodyReader
from streams.log import EventLog
from tests.judges.logbook import Logbook, differences

# What floats and the textbook's quantiles leave open beside a bound.
SLACK = 0.02
_WORDS = {DriftFound: "found", DriftEnded: "ended"}


def drift_faults(log: EventLog, book: Logbook) -> Iterator[str]:
    """Every word of drift that does not follow from the answers, and every silence where one had to be said."""
    tasks: dict[str, _Walk] = {}
    with_events = [decision.events for decision in book.rounds.decisions]
    for events in with_events:
        for event in events:
            fact = getattr(event, "fact", None)
            if isinstance(event, Noticed) and isinstance(fact, TaskCreated) and fact.policy.drift is not UNSET:
                tasks.setdefault(fact.task, _Walk(fact))
            elif isinstance(event, DriftFound | DriftEnded) and event.task not in tasks:
                yield f"rounds: task {event.task}: {event.kind}, and its policy does not ask"
            elif isinstance(event, ModelPublished) and (walk := tasks.get(event.task)) is not None:
                told = [e for e in events if isinstance(e, DriftFound | DriftEnded) and e.task == event.task]
                yield from (f"rounds: task {event.task}: {fault}" for fault in walk.take(log, event, told))


@dataclass(slots=True)
class _Walk:
    """One task's story so far."""

    created: TaskCreated
    reference: Any = None
    since: dict[tuple[str, str, str], int] = field(default_factory=dict)

    def take(self, log: EventLog, published: ModelPublished, told: Sequence[Any]) -> Iterator[str]:
        """Follow one version, with what was said of it."""
        asked, given = self.created.policy.drift, self.created.reference
        assert asked is not UNSET
        if given is not UNSET and self.reference is None:
            self.reference = _read(log, self.created, given.model, members=given.members)
        if published.round is not None:
            yield from self._judge(log, published, told)
        elif told:
            yield "something is said of version 0"
        if given is UNSET and published.version == asked.version:
            self.reference = _read(log, self.created, published.model, members=published.members)

    def _judge(self, log: EventLog, published: ModelPublished, told: Sequence[Any]) -> Iterator[str]:
        version = published.version
        names = [(e.kind, e.cohort, e.measure) for e in told]
        if len({*names}) < len(names) or any(e.version != version for e in told):
            yield f"version {version}: something is said twice, or of another version"
        now = _read(log, self.created, published.model, members=published.members)
        distances = {} if now is None else dict(_measure(self.created, now, self.reference))
        for event in told:
            name = (event.kind, event.cohort, event.measure)
            since = self.since.get(name, version)
            if isinstance(event, DriftEnded) and self.since.pop(name, None) is None:
                yield f"version {version}: {name} ends, and was not found"
            elif isinstance(event, DriftFound):
                self.since.setdefault(name, version)
            if event.since != since:
                yield f"version {version}: {name} since {event.since}, and it is since {since}"
            found = distances.get(name)
            if found is not None and abs(event.value / 1e6 - found) > 1e-4 * max(1.0, found):
                yield f"version {version}: {name} is {event.value / 1e6}, by the answers {found:.6f}"
            is_beyond = event.value >= event.bound and event.value > event.by_chance
            if isinstance(event, DriftFound) != is_beyond:
                yield f"version {version}: {name} is {type(event).__name__} at {event.value} of {event.bound}"
        # What is neither said nor standing must be within its bound, or by chance. Noise makes that the actor's word.
        for name, value in distances.items() if self.created.policy.privacy is None else ():
            bound = max(_find_bound(self.created, name), _find_chance(self.created, name, now, self.reference))
            if name not in names and value > bound * (1 + SLACK) + SLACK:
                yield f"version {version}: {name} is {value:.4f} of {bound:.4f}, and nothing is said"


def _read(log: EventLog, created: TaskCreated, ref: Any, *, members: int) -> dict[str, tuple[Any, float]] | None:
    """The counts of each cohort and of all, and how many devices they are of; None where the body has left."""
    reader = BodyReader(log, ref.topic, ref.partition)
    data = reader.fetch(ref)
    reader.close()
    asked, measure = created.policy.drift, created.policy.measure
    assert asked is not UNSET
    assert measure is not None
    if not isinstance(data, bytes):
        return None
    try:
        vector = np.asarray(unpack(data, "float32", count=created.parameters), np.float64)
    except BodyError:
        return None
    vector = vector * (members if measure.release == "mean" else 1)
    parts, at = {}, 0
    for name, statistic in measure.statistics.items():
        size = math.prod(statistic.shape)
        parts[name] = vector[at : at + size].reshape(statistic.shape)
        at += size
    rows = np.atleast_2d(parts[asked.statistic])
    if not asked.cohorts:
        return {"": (rows[0], members)}
    devices = parts[asked.devices]
    found = {cohort: (rows[n], float(devices[n])) for n, cohort in enumerate(asked.cohorts)}
    return {"": (rows.sum(axis=0), float(devices.sum())), **found}


def _pairs(created: TaskCreated, now: Any, before: Any) -> Iterator[tuple[str, str, Any, Any]]:
    asked = created.policy.drift
    for cohort in now if before is not None else ():
        yield "drift", cohort, before[cohort], now[cohort]
    if asked.skew_psi_max is not UNSET or asked.skew_ks_max is not UNSET:
        for cohort in asked.cohorts:
            rest = [now[other] for other in asked.cohorts if other != cohort]
            yield "skew", cohort, (sum(r[0] for r in rest), sum(r[1] for r in rest)), now[cohort]


def _measure(created: TaskCreated, now: Any, before: Any) -> Iterator[tuple[tuple[str, str, str], float]]:
    for kind, cohort, (a, n), (b, m) in _pairs(created, now, before):
        if min(a.sum(), b.sum()) <= 0 or min(n, m) < 1:
            continue
        p, q = (np.maximum(c, 0) / np.maximum(c, 0).sum() * d + 0.5 for c, d in ((a, n), (b, m)))
        p, q = p / p.sum(), q / q.sum()
        yield (kind, cohort, "psi"), float(((q - p) * np.log(q / p)).sum())
        yield (kind, cohort, "ks"), float(np.abs(np.cumsum(b / b.sum() - a / a.sum())).max())


def _find_bound(created: TaskCreated, name: tuple[str, str, str]) -> float:
    asked, (kind, _, measure) = created.policy.drift, name
    bound = getattr(asked, f"skew_{measure}_max" if kind == "skew" else f"{measure}_max")
    return math.inf if bound is UNSET else float(bound)


def _find_chance(created: TaskCreated, name: tuple[str, str, str], now: Any, before: Any) -> float:
    """By Monte Carlo's answer in closed form: the quantiles of chi-square and Kolmogorov, from scipy."""
    from scipy import stats

    pairs = [*_pairs(created, now, before)]
    looks = len(now) + (len(created.policy.drift.cohorts) if any(p[0] == "skew" for p in pairs) else 0)  # type: ignore[union-attr]
    alarms = 0.005 / 2 ** (looks - 1).bit_length()
    [(a, n, m)] = [(x[0], x[1], y[1]) for kind, cohort, x, y in pairs if (kind, cohort) == name[:2]]
    spread = 1 / n + 1 / m
    if name[2] == "psi":
        return float(stats.chi2.isf(alarms, len(a) - 1) * spread)
    return float(stats.kstwobign.isf(alarms) * spread**0.5)


def drift_announcement_faults(book: Logbook, said: Sequence[dict[str, Any]], *, settled: bool) -> Iterator[str]:
    """`published` holds one CloudEvent for each crossing and each end, in the journal's order and words."""
    expected = []
    for offset, batch in book.rounds.batches:
        used = Counter[str]()
        for event in (event for decision in batch.decisions for event in decision.events if type(event) in _WORDS):
            if isinstance(event, DriftFound) and event.since != event.version:
                continue
            word = _WORDS[type(event)]
            name = f"{event.task}/{event.version}/drift{word}/{batch.seq}"
            used[name] += 1
            more = f"-{used[name] - 1}" if used[name] > 1 else ""
            head = book.rounds.stand(offset + 1).head.hex()
            place = (event.kind, event.cohort, event.measure, event.value / 1e6)
            expected.append((name + more, f"io.fedlog.drift.{word}.v1", *place, head))
    found = [
        (
            *(event["id"], event["type"]),
            *(event["data"][name] for name in ("kind", "cohort", "measure", "value")),
            event["data"]["journal"]["head"],
        )
        for event in said
    ]
    yield from differences("published, of drift", expected if settled else expected[: len(found)], found)
