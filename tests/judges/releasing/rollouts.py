"""Judges a rollout's journal by what stands in the topics: it knows events, policies and scores, and no decider.

One candidate at a time; what is promoted went through every stage on final scores within all gates, or was ordered;
what was rolled back comes back by an order alone; nobody is given what the aggregator does not keep. What a decision
rests on was said by an evaluator, and known to the journal before; a rollback by a gate names scores that fail one.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec import UNSET

from schemas.canonical import MalformedError, decode
from schemas.certificates import parse_certified
from schemas.events import (
    CanaryGrown,
    CanaryStarted,
    CandidateStaged,
    Evidence,
    ModelPublished,
    Noticed,
    OrderRefused,
    Promoted,
    RolledBack,
    RolloutHalted,
    RolloutOrdered,
    RolloutResumed,
    TaskCreated,
    VersionEvaluated,
)
from schemas.topics import EVALUATIONS, ROLLOUTS
from streams.log import EventLog
from tests.judges.logbook import Logbook
from tests.judges.releasing.drift_gates import Standing, is_drift, is_looked_at, list_beyond, note, rollback_faults
from tests.judges.releasing.gates import Scorebook
from tests.judges.releasing.orders import keeping_faults, obedience_faults, pass_on_faults, relay_faults

Said = tuple[str, int, str, str, str, float, int]
MOVES = (CandidateStaged, CanaryStarted, CanaryGrown, Promoted, RolledBack, RolloutHalted, RolloutResumed, OrderRefused)
_GATES = ("at_least", "at_most", "drop", "gap")
_LESS_IS_BETTER = ("loss", "mae", "perplexity")


@dataclass(slots=True)
class Walk:
    """One task's story so far."""

    created: TaskCreated
    published: Mapping[tuple[str, int], Any]
    candidate: int | None = None
    stage: int = -1
    begun_ms: int = 0
    promoted: int | None = None
    previous: int | None = None
    tried: int = 0
    is_halted: bool = False
    orders: int = 0
    heard: set[Said] = field(default_factory=set)
    # Versions that the aggregator keeps, and those that were rolled back and that nobody has ordered since.
    kept: set[int] = field(default_factory=set)
    gone: set[int] = field(default_factory=set)
    is_approved: bool = False
    drifts: Standing = field(default_factory=dict)
    scorebook: Scorebook = field(init=False)

    def __post_init__(self) -> None:
        self.scorebook = Scorebook(self.created.policy)

    def hear(self, fact: Any, events: Sequence[Any]) -> Iterator[str]:
        """Take in what the journal has noticed, decided together with these events; what is wrong with it."""
        match fact:
            case VersionEvaluated():
                self.heard |= {*list_said(fact)}
                self.scorebook.hear(fact)
            case ModelPublished():
                self.scorebook.newest = fact.version
                if self.published.get((fact.task, fact.version)) != fact.model:
                    yield f"{fact.task}: version {fact.version} has another model in `rounds`"
            case CandidateStaged():
                self.kept.add(fact.version)
            case RolloutOrdered():
                if fact.number <= self.orders:
                    yield f"{fact.task}: order {fact.number} comes after order {self.orders}"
                self.orders = fact.number
                if fact.action == "approve":
                    self.is_approved = self.candidate is not None and fact.version in (None, self.candidate)
                yield from obedience_faults(self, fact, events)

    def take(self, event: Any, orders: list[RolloutOrdered], *, time_ms: int) -> Iterator[str]:
        """Follow one event, decided together with these orders; what is wrong with it."""
        match event:
            case CandidateStaged():
                yield from self._stages(event, time_ms=time_ms)
            case CanaryStarted() | CanaryGrown():
                yield from self._grows(event, time_ms=time_ms)
                self.stage, self.begun_ms = event.stage, time_ms
            case Promoted():
                yield from self._is_due(event, orders, time_ms=time_ms)
                self.candidate, self.tried = None, max(self.tried, event.version)
                self.previous, self.promoted = self.promoted, event.version
            case RolledBack():
                yield from self._goes_back(event, orders)
            case RolloutHalted() | RolloutResumed():
                yield from self._stands(event, orders)
        if self.is_halted and not orders and not isinstance(event, RolloutHalted):
            yield f"{type(event).__name__} while halted"

    def find_held(self) -> Iterator[str]:
        """What has to be gone once a fact is decided: a canary from whom data have moved."""
        is_given = self.candidate is not None and self.stage >= 0 and not self.is_halted
        if is_given and list_beyond(self.created.policy, self.drifts):
            yield f"{self.candidate} stays with its canary, and data have moved"

    def _stages(self, event: CandidateStaged, *, time_ms: int) -> Iterator[str]:
        if self.candidate is not None:
            yield f"{event.version} is staged while {self.candidate} is a candidate"
        if event.version <= max(self.tried, self.promoted or 0):
            yield f"{event.version} is staged, and {self.tried} had its chance"
        if event.version in self.gone:
            yield f"{event.version} is staged, and was rolled back"
        if event.version % self._rules.every:
            yield f"{event.version} is staged, and only each {self._rules.every}th is a candidate"
        if list_beyond(self.created.policy, self.drifts):
            yield f"{event.version} is staged while data have moved"
        yield from self._follows(event.previous, self.promoted, event)
        self.candidate, self.stage, self.begun_ms, self.tried = event.version, -1, time_ms, event.version
        self.is_approved = False

    def _stands(self, event: RolloutHalted | RolloutResumed, orders: list[RolloutOrdered]) -> Iterator[str]:
        self.is_halted = isinstance(event, RolloutHalted)
        if isinstance(event, RolloutHalted) and self.candidate is None:
            self.tried = max(self.tried, event.version or 0)
        if isinstance(event, RolloutResumed) and not any(order.action == "resume" for order in orders):
            yield "it resumed without an order"

    def _follows(self, found: int | None, expected: int | None, event: Any) -> Iterator[str]:
        if found != expected:
            yield f"{type(event).__name__} of {event.version} goes on from {found}, and {expected} counts"

    def _is_over(self, time_ms: int) -> bool:
        """Whether the present stage has lasted as long as the policy asks."""
        hold_s = self._rules.stages[self.stage].hold_s if self.stage >= 0 else 0
        return time_ms >= self.begun_ms + round(hold_s * 1000)

    @property
    def _rules(self) -> Any:
        return self.created.policy.rollout

    def _grows(self, event: CanaryStarted | CanaryGrown, *, time_ms: int) -> Iterator[str]:
        stage = self._rules.stages[event.stage]
        if event.version != self.candidate:
            yield f"a canary of {event.version}, and {self.candidate} is the candidate"
        if event.stage != self.stage + 1 or (event.share, event.cohorts) != (stage.share, stage.cohorts):
            yield f"stage {event.stage} of {event.version} is not the policy's, after {self.stage}"
        if not self._is_over(time_ms):
            yield f"{event.version} leaves stage {self.stage} early"
        yield from self._rests(event)

    def _rests(self, event: CanaryStarted | CanaryGrown | Promoted) -> Iterator[str]:
        """What holds for all that comes to more people without an order."""
        if not event.evidence:
            yield f"{type(event).__name__} of {event.version} without a score"
        if event.version not in self.kept:
            yield f"{type(event).__name__} of {event.version}, which nobody keeps"
        if event.version in self.gone:
            yield f"{type(event).__name__} of {event.version}, which was rolled back"
        if list_beyond(self.created.policy, self.drifts):
            yield f"{type(event).__name__} of {event.version} while data have moved"
        yield from self.scorebook.find_faults(event.version, against=self.promoted, evidence=event.evidence)

    def _is_due(self, event: Promoted, orders: list[RolloutOrdered], *, time_ms: int) -> Iterator[str]:
        yield from self._follows(event.previous, self.promoted, event)
        if any(order.action == "promote" and order.version == event.version for order in orders):
            self.gone.discard(event.version)
            return
        if event.version != self.candidate or self.stage != len(self._rules.stages) - 1:
            yield f"{event.version} is promoted in stage {self.stage}, and nobody ordered it"
        if not self._is_over(time_ms):
            yield f"{event.version} is promoted early"
        if self._rules.needs_approval and not self.is_approved:
            yield f"{event.version} is promoted, and the operator has not approved of it"
        yield from self._rests(event)

    def _goes_back(self, event: RolledBack, orders: list[RolloutOrdered]) -> Iterator[str]:
        self.gone.add(event.version)
        yield from rollback_faults(self.created.policy, self.drifts, event)
        if event.reason in _GATES and not self._fails(event):
            yield f"{event.version} is rolled back by {event.reason}, and its scores do not fail it"
        if event.reason in ("ordered", "superseded") and not orders:
            yield f"{event.version} is rolled back as {event.reason} without an order"
        if event.version == self.candidate:
            yield from self._follows(event.to, self.promoted, event)
            self.candidate = None
        elif event.version == self.promoted:
            yield from self._follows(event.to, self.previous, event)
            self.promoted, self.previous = event.to, None
        else:
            yield f"{event.version} is rolled back, and is neither candidate nor promoted"

    def _fails(self, event: RolledBack) -> bool:
        """Whether a gate of the policy refuses the medians of the evidence."""
        here = {cohort: value for (version, cohort), value in _medians(event.evidence).items()}
        by_version = _medians(event.evidence)
        for gate in self._rules.gates:
            if any(each.metric != gate.metric for each in event.evidence):
                continue
            value = by_version.get((event.version, gate.cohort))
            other = next((v for (version, c), v in by_version.items() if (version, c) != (event.version, c)), None)
            sign = -1 if gate.metric in _LESS_IS_BETTER else 1
            found = {
                "at_least": gate.at_least is not UNSET and value is not None and value < gate.at_least,
                "at_most": gate.at_most is not UNSET and value is not None and value > gate.at_most,
                "drop": gate.drop_max is not UNSET
                and value is not None
                and other is not None
                and sign * (other - value) > gate.drop_max,
                "gap": gate.gap_max is not UNSET and max(here.values()) - min(here.values()) > gate.gap_max,
            }
            if found[event.reason]:
                return True
        return False


def _medians(evidence: Iterable[Evidence]) -> dict[tuple[int, str], float]:
    places = {(each.version, each.cohort) for each in evidence}
    return {
        place: statistics.median(each.value for each in evidence if (each.version, each.cohort) == place)
        for place in places
    }


def list_said(evaluated: VersionEvaluated) -> Iterator[Said]:
    """What an evaluator has said, number by number."""
    by = "" if evaluated.evaluator is UNSET else evaluated.evaluator
    for metric, value in evaluated.metrics.items():
        yield (evaluated.task, evaluated.version, evaluated.cohort, by, metric, value, evaluated.samples)


def find_rollout_faults(
    decisions: Iterable[tuple[int, Iterable[Any]]],
    *,
    published: Mapping[tuple[str, int], Any],
    said: Collection[Said],
    walks: dict[str, Walk] | None = None,
) -> Iterator[str]:
    """What is wrong with these decisions, each its log time and its events; `walks` says then how each task stands.

    `published` has the model of each task and version, `said` what stands in `evaluations`.
    """
    walks = {} if walks is None else walks
    for time_ms, events in ((time_ms, run) for time_ms, given in decisions for run in _split(given)):
        first = events[0].fact if isinstance(events[0], Noticed) else None
        if isinstance(first, TaskCreated):
            walks[first.task] = Walk(first, published)
        elif is_drift(events[0]):
            for walk in (each for each in walks.values() if is_looked_at(each.created.policy, first)):
                note(walk.drifts, first)  # type: ignore[arg-type]
        elif first is not None:
            yield from walks[first.task].hear(first, events)
        orders = [first] if isinstance(first, RolloutOrdered) else []
        for event in (event for event in events if isinstance(event, MOVES)):
            walk, mine = walks[event.task], [order for order in orders if order.task == event.task]
            yield from (f"{event.task}: {fault}" for fault in walk.take(event, mine, time_ms=time_ms))
            yield from _find_unproven(walk, event, said=said)
        yield from (f"{name}: {fault}" for name, walk in walks.items() for fault in walk.find_held())


def _split(events: Iterable[Any]) -> Iterator[list[Any]]:
    """What was decided on each fact by itself: one record of the aggregator's journal holds many."""
    run: list[Any] = []
    for event in events:
        if isinstance(event, Noticed) and run:
            yield run
            run = []
        run.append(event)
    if run:
        yield run


def _find_unproven(walk: Walk, event: Any, *, said: Collection[Said]) -> Iterator[str]:
    """Evidence that nobody has given, or that the journal did not know, and models that are not the version's."""
    for each in getattr(event, "evidence", ()):
        found = (event.task, each.version, each.cohort, each.evaluator, each.metric, each.value, each.samples)
        if found not in said or found not in walk.heard:
            yield f"{event.task}: {type(event).__name__} rests on {each}, which nobody has said"
    version = event.to if isinstance(event, RolledBack) else getattr(event, "version", None)
    if hasattr(event, "model") and walk.published.get((event.task, version)) != event.model:
        yield f"{event.task}: {type(event).__name__} names another model than that of version {version}"


def rollout_faults(log: EventLog, book: Logbook, *, settled: bool) -> Iterator[str]:
    """What is wrong with the rollout's journal of one partition, by the other topics alone."""
    published = {(event.task, event.version): event.model for event in book.rounds.events(ModelPublished)}
    said: set[Said] = set()
    for record in book.inputs[EVALUATIONS.name]:
        with contextlib.suppress(MalformedError):
            said |= {*list_said(decode(parse_certified(record.value or b"").payload, VersionEvaluated))}
    journal, walks = book.journals[ROLLOUTS.name], dict[str, Walk]()
    decisions = ((decision.time_ms, decision.events) for decision in journal.decisions)
    yield from find_rollout_faults(decisions, published=published, said=said, walks=walks)
    yield from pass_on_faults(book, settled=settled)
    if not journal.claims:
        return  # nobody rolls anything out here
    yield from relay_faults(book, settled=settled)
    # While everybody is at work its journal says less than what was deleted since.
    if settled:
        yield from keeping_faults(log, book, walks)
