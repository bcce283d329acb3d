"""What evaluators say of versions, and what is final of it: pure, and shared by all who decide on scores.

One voice an evaluator's key, and one for all federated evaluations of a version together, however many relay them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from msgspec import UNSET

from schemas.events import HaltReason, VersionEvaluated
from schemas.identifiers import Cohort, Version
from schemas.policy import LESS_IS_BETTER, Policy, name_judged_metric

# A loss this many times the first model's, or this much where that was below one, is of a model that guesses far worse
# than one that has learnt nothing: noise and a bad round do not reach it, and no training comes back from it.
LOSS_FACTOR = 1_000.0
LOSS = "loss"
# Of one evaluator and version: it could fill the memory of all who listen with names.
COHORTS_MAX = 64
# Behind a key's name: what it relays of a measure task, beside what it says itself.
_RELAYED = "+"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """When scores are final: `quorum` voices, of which enough are within `disagreement_max` in `metric`.

    `kept`: the metrics that somebody decides on; of others nothing is remembered. None: all of them, for people.
    """

    quorum: int
    metric: str
    disagreement_max: float | None = None
    kept: frozenset[str] | None = frozenset()

    @classmethod
    def read(cls, policy: Policy, *more: str) -> Self:
        """The policy's rule, for whoever decides on `more` metrics than those that end a task."""
        rules, metric = policy.evaluation, name_judged_metric(policy)
        return cls(
            quorum=rules.quorum or 1,
            metric=metric,
            disagreement_max=None if rules.disagreement_max is UNSET else rules.disagreement_max,
            kept=frozenset((metric, policy.stop.target_metric, LOSS, *more)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Final:
    """The score of a version and cohort: of each metric the median over `voices`, and all their examples."""

    metrics: dict[str, float]
    samples: int
    voices: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Contested:
    """A quorum has spoken, and too few of it agree: `spread` is between the furthest two."""

    voices: int
    spread: float


@dataclass(slots=True)
class Voice:
    """What one evaluator says, once."""

    metrics: dict[str, float]
    samples: int


@dataclass(slots=True)
class Scores:
    """What is said of the versions that are not forgotten: by version, by who says it, and by cohort."""

    said: dict[Version, dict[str, dict[Cohort, Voice]]] = field(default_factory=dict)

    def is_new(self, evaluated: VersionEvaluated, rule: Rule) -> bool:
        """Whether it would be another voice; what an evaluator says a second time replaces nothing."""
        # The first counts: whoever could take it back could wait for what the others say.
        if rule.quorum > 1 and evaluated.evaluator is UNSET:
            # Without a name one key would be a voice more.
            return False
        if rule.kept is not None and not rule.kept & evaluated.metrics.keys():
            return False
        cohorts = self.said.get(evaluated.version, {}).get(_name_voice(evaluated), {})
        return evaluated.cohort not in cohorts and (not evaluated.cohort or len(cohorts) < COHORTS_MAX)

    def add(self, evaluated: VersionEvaluated, rule: Rule) -> None:
        """Remember a new voice."""
        voices = self.said.setdefault(evaluated.version, {})
        kept = evaluated.metrics.keys() if rule.kept is None else rule.kept
        metrics = {name: value for name, value in evaluated.metrics.items() if name in kept}
        voices.setdefault(_name_voice(evaluated), {})[evaluated.cohort] = Voice(metrics, evaluated.samples)

    def forget(self, before: Version) -> None:
        """Remember nothing of older versions any more: what is kept grows with evaluators, not with versions."""
        for version in [version for version in self.said if version < before]:
            del self.said[version]

    def list_cohorts(self, version: Version) -> list[Cohort]:
        """Those of which anybody has spoken, without that of all together."""
        said = self.said.get(version, {}).values()
        return sorted({cohort for cohorts in said for cohort in cohorts if cohort})

    def count_voices(self, version: Version, cohort: Cohort = "") -> int:
        """How many have spoken of a version and cohort; all measurements together are one."""
        return len(self._list_voices(version, cohort))

    def settle(self, version: Version, cohort: Cohort = "", *, rule: Rule) -> Final | Contested | None:
        """What is final of a version and cohort; None before a quorum has spoken."""
        voices = self._list_voices(version, cohort)
        if len(voices) < rule.quorum or not voices:
            return None
        if rule.disagreement_max is not None:
            values = sorted(voice.metrics[rule.metric] for voice in voices if rule.metric in voice.metrics)
            agreeing = _count_agreeing(values, within=rule.disagreement_max)
            if agreeing < rule.quorum or 2 * agreeing <= len(voices):
                return Contested(voices=len(voices), spread=values[-1] - values[0] if values else 0.0)
        metrics = _take_medians(voices, at_least=rule.quorum)
        return Final(metrics=metrics, samples=sum(voice.samples for voice in voices), voices=len(voices))

    def find_final(self, version: Version, cohort: Cohort = "", *, rule: Rule) -> Final | None:
        """The final score; None before there is one, and while it is contested."""
        found = self.settle(version, cohort, rule=rule)
        return found if isinstance(found, Final) else None

    def _list_voices(self, version: Version, cohort: Cohort) -> list[Voice]:
        own: list[Voice] = []
        relayed: list[Voice] = []
        for name, cohorts in self.said.get(version, {}).items():
            if (voice := cohorts.get(cohort)) is not None:
                (relayed if name.endswith(_RELAYED) else own).append(voice)
        if not relayed:
            return own
        # One voice, and the median of what is relayed: whoever relays it falsely is one of them.
        medians = _take_medians(relayed, at_least=1)
        return [*own, Voice(medians, max(voice.samples for voice in relayed))]


def _name_voice(evaluated: VersionEvaluated) -> str:
    name = "" if evaluated.evaluator is UNSET else evaluated.evaluator
    return name if evaluated.source is UNSET else name + _RELAYED


def _take_medians(voices: Sequence[Voice], *, at_least: int) -> dict[str, float]:
    """The median of each metric that so many have."""
    names = sorted({name for voice in voices for name in voice.metrics})
    by_name = {name: [voice.metrics[name] for voice in voices if name in voice.metrics] for name in names}
    return {name: find_median(values) for name, values in by_name.items() if len(values) >= at_least}


def find_median(values: Sequence[float]) -> float:
    """The middle one; of an even number the mean of the two in the middle. Finite, because its values are."""
    ordered, middle = sorted(values), len(values) // 2
    if len(ordered) % 2:
        return ordered[middle]
    # Halved first: the sum of two large numbers may be none.
    return ordered[middle - 1] / 2 + ordered[middle] / 2


def _count_agreeing(values: Sequence[float], *, within: float) -> int:
    """The most of these, which ascend, that are no further apart than that."""
    begin = most = 0
    for end, value in enumerate(values):
        while value - values[begin] > within:
            begin += 1
        most = max(most, end - begin + 1)
    return most


def is_better(value: float, other: float, *, metric: str, by: float = 0.0) -> bool:
    """Whether a value is better than another one, by more than that."""
    return (other - value if metric in LESS_IS_BETTER else value - other) > by


@dataclass(slots=True)
class Standing:
    """How a task stands by its final scores of all examples.

    `finals`: the metric that counts, of each version whose score is final. `best`: the best of those forgotten.
    """

    scores: Scores = field(default_factory=Scores)
    finals: dict[Version, float] = field(default_factory=dict)
    best: float | None = None

    def add(self, evaluated: VersionEvaluated, policy: Policy) -> None:
        """Remember a new voice, and what is final with it."""
        rule, version = Rule.read(policy), evaluated.version
        self.scores.add(evaluated, rule)
        final = self.scores.find_final(version, rule=rule)
        # One voice more may also contest what was final.
        self.finals.pop(version, None)
        if final is not None and rule.metric in final.metrics:
            self.finals[version] = final.metrics[rule.metric]

    def with_voice(self, evaluated: VersionEvaluated, policy: Policy) -> Standing:
        """The same and one voice more, which is not folded yet."""
        voices = {name: dict(cohorts) for name, cohorts in self.scores.said.get(evaluated.version, {}).items()}
        found = Standing(Scores({**self.scores.said, evaluated.version: voices}), dict(self.finals), self.best)
        found.add(evaluated, policy)
        return found

    def forget(self, version: Version, metric: str) -> None:
        """Remember nothing of a version but what it was at best: a state grows with evaluators, not with versions."""
        self.scores.said.pop(version, None)
        if (value := self.finals.pop(version, None)) is not None:
            self.best = value if self.best is None or is_better(value, self.best, metric=metric) else self.best

    def judge(self, version: Version, policy: Policy, *, first_loss: float | None) -> HaltReason | None:
        """Why the task ends once another voice has spoken of this version; None where it goes on."""
        final = self.scores.find_final(version, rule=Rule.read(policy))
        if final is None:
            return None
        if meets_target(policy, final.metrics):
            return "target"
        if has_diverged(final.metrics, first_loss):
            return "diverged"
        return "regressed" if self._has_regressed(policy) else None

    def _has_regressed(self, policy: Policy) -> bool:
        """Whether the newest final score is worse than the best before it by more than the policy allows."""
        drop_max, metric = policy.evaluation.drop_max, name_judged_metric(policy)
        if drop_max is UNSET or not self.finals:
            return False
        # Those before it alone: an evaluator that is behind scores old versions after new ones.
        newest = max(self.finals)
        before = [value for version, value in self.finals.items() if version < newest]
        before += [] if self.best is None else [self.best]
        return any(is_better(value, self.finals[newest], metric=metric, by=drop_max) for value in before)


def has_diverged(metrics: Mapping[str, float], first_loss: float | None) -> bool:
    """Whether a version has lost its way since the operator's own."""
    loss = metrics.get(LOSS)
    return loss is not None and first_loss is not None and loss > LOSS_FACTOR * max(first_loss, 1.0)


def meets_target(policy: Policy, metrics: Mapping[str, float]) -> bool:
    """Whether a version is as good as the policy asks."""
    value = metrics.get(policy.stop.target_metric)
    return value is not None and value >= policy.stop.target_value
