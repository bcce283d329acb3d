"""Judges whether a version may come to more people, by what evaluators had said before: written from docs/rollout.md.

It knows policies and scores, and no decider: quorum, agreement, examples and each gate are reckoned anew.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from msgspec import UNSET

from schemas.events import Evidence, VersionEvaluated
from schemas.policy import Policy

LESS_IS_BETTER = ("loss", "mae", "perplexity")
Place = tuple[int, str]
Medians = Mapping[str, float]


@dataclass(slots=True)
class Scorebook:
    """What was said of the versions of one task, as its journal heard it. `newest` is its newest version by now."""

    policy: Policy
    newest: int = -1
    _said: dict[Place, dict[tuple[str, bool], VersionEvaluated]] = field(default_factory=dict)
    _early: set[tuple[Place, tuple[str, bool]]] = field(default_factory=set)

    def hear(self, evaluated: VersionEvaluated) -> None:
        """Take a score in; one that comes a second time does so because it was forgotten."""
        place = (evaluated.version, evaluated.cohort)
        by = ("" if evaluated.evaluator is UNSET else evaluated.evaluator, evaluated.source is not UNSET)
        self._said.setdefault(place, {})[by] = evaluated
        # Of those ahead of their version few are kept, and which ones is nobody's promise.
        change = self._early.add if evaluated.version > self.newest else self._early.discard
        change((place, by))

    def find_faults(self, version: int, *, against: int | None, evidence: Sequence[Evidence]) -> Iterator[str]:
        """Why nobody more may get this version, beside `against`; nothing where it may go on."""
        for cohort in ("", *self._list_named()):
            if self._settle((version, cohort), evidence) is None:
                yield f"{version} has no final score for cohort {cohort!r}"
        for gate in self.policy.rollout.gates:  # type: ignore[union-attr]
            if gate.drift_of is not UNSET:
                continue
            values = self._look(gate, version, against=against, evidence=evidence)
            yield from (f"{version} fails {name} of {gate}: {found}" for name, found in values if found is not True)

    def _look(
        self, gate: Any, version: int, *, against: int | None, evidence: Sequence[Evidence]
    ) -> Iterator[tuple[str, Any]]:
        """Each bound of a gate, and whether it holds; None where it cannot be known."""
        value = self._find((version, gate.cohort), gate.metric, evidence)
        if gate.at_least is not UNSET:
            yield "at_least", value is not None and value >= gate.at_least
        if gate.at_most is not UNSET:
            yield "at_most", value is not None and value <= gate.at_most
        if gate.drop_max is not UNSET and against is not None:
            other = self._find((against, gate.cohort), gate.metric, evidence)
            sign = -1 if gate.metric in LESS_IS_BETTER else 1
            is_known = value is not None and other is not None
            yield "drop_max", sign * (other - value) <= gate.drop_max if is_known else None  # type: ignore[operator]
        if gate.gap_max is not UNSET:
            found = [self._find(each, gate.metric, evidence) for each in self._list_places(version, against, evidence)]
            is_known = bool(found) and None not in found
            yield "gap_max", max(found) - min(found) <= gate.gap_max if is_known else None  # type: ignore[operator,type-var]

    def _list_places(self, version: int, against: int | None, evidence: Sequence[Evidence]) -> list[Place]:
        """Every cohort that a stage or a gate names, or that either version was scored for."""
        told = {c for (n, c) in self._said if n in (version, against) and self._list_voices((n, c), evidence)}
        return [*product([version], sorted({*self._list_named(), *told} - {""}))]

    def _list_named(self) -> list[str]:
        rules: Any = self.policy.rollout
        staged = {cohort for stage in rules.stages for cohort in stage.cohorts}
        return sorted({*staged, *(gate.cohort for gate in rules.gates if gate.drift_of is UNSET)} - {""})

    def _find(self, place: Place, metric: str, evidence: Sequence[Evidence]) -> float | None:
        medians = self._settle(place, evidence)
        return None if medians is None else medians.get(metric)

    def _settle(self, place: Place, evidence: Sequence[Evidence]) -> Medians | None:
        """The medians that are final of a version and cohort; None without a quorum that agrees, on enough examples."""
        voices = self._list_voices(place, evidence)
        rules = self.policy.evaluation
        quorum = rules.quorum or 1
        if len(voices) < quorum or sum(samples for _, samples in voices) < self.policy.rollout.samples_min:  # type: ignore[union-attr]
            return None
        judged = rules.metric or self.policy.stop.target_metric or "accuracy"
        told = [metrics[judged] for metrics, _ in voices if judged in metrics]
        if rules.disagreement_max is not UNSET:
            near = [sum(0 <= other - each <= rules.disagreement_max for other in told) for each in told]
            if max(near, default=0) < quorum or 2 * max(near) <= len(voices):
                return None
        return _take_medians([metrics for metrics, _ in voices], at_least=quorum)

    def _list_voices(self, place: Place, evidence: Sequence[Evidence]) -> list[tuple[Medians, int]]:
        """One for each evaluator, and one for all that is relayed of measure tasks."""
        named = {(each.version, each.cohort, each.evaluator) for each in evidence}
        heard = {
            by: said
            for by, said in self._said.get(place, {}).items()
            if (place, by) not in self._early or (*place, by[0]) in named
        }
        own: list[tuple[Medians, int]] = [(said.metrics, said.samples) for by, said in heard.items() if not by[1]]
        relayed = [said for by, said in heard.items() if by[1]]
        if relayed:
            medians = _take_medians([said.metrics for said in relayed], at_least=1)
            own.append((medians, max(said.samples for said in relayed)))
        return own


def _take_medians(voices: Iterable[Medians], *, at_least: int) -> Medians:
    told = [*voices]
    by_name = {name: [metrics[name] for metrics in told if name in metrics] for metrics in told for name in metrics}
    return {name: statistics.median(values) for name, values in by_name.items() if len(values) >= at_least}
