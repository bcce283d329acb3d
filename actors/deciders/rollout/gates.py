"""What the final scores say of a version: whether it passes the gates of its task, and on what that rests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from msgspec import UNSET

from actors.deciders.rollout.state import Task
from actors.deciders.scores import Contested, Final
from schemas.events import Evidence, RollbackReason
from schemas.policy import LESS_IS_BETTER, Gate

Finding = Literal["passed", "failed", "contested", "missing"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found, on what scores; of a version that failed, of its first gate that did, and why."""

    finding: Finding
    evidence: tuple[Evidence, ...]
    reason: RollbackReason | None = None


class _Missing(Exception):
    """A gate looks at a score that is not final, does not have the metric, or rests on too few examples."""


class _Contested(_Missing):
    """Evaluators differ by more than the policy allows."""


def judge(task: Task, version: int, *, against: int | None) -> Verdict:
    """The verdict on a version beside `against`, what is promoted otherwise.

    A gate that fails says so whatever else is missing, and evaluators who differ stop all that they differ about.
    """
    looks = [*_list_looks(task, version, against=against)]
    found = [(look, _weigh(task, look)) for look in looks]
    # In this order: a version that is known to be bad must not stay in use because something else is not known.
    for finding in ("failed", "contested", "missing"):
        for look, (is_, reason) in found:
            if is_ == finding:
                return Verdict(finding, _collect(task, [look]), reason)
    return Verdict("passed", _collect(task, looks))


@dataclass(frozen=True, slots=True)
class _Look:
    """One comparison: scores of one metric, by version and cohort, and the gate that they have to pass, if any."""

    metric: str
    places: tuple[tuple[int, str], ...]
    gate: Gate | None = None
    bound: RollbackReason | None = None


def _list_looks(task: Task, version: int, *, against: int | None) -> Iterator[_Look]:
    """All that is looked at, each bound for itself; that a cohort has a score at all comes last."""
    named = task.rules.list_cohorts()
    for gate in task.rules.scored_gates:
        here = (version, gate.cohort)
        # Each bound by itself, so that a rollback names the one that failed and no other.
        if gate.at_least is not UNSET:
            yield _Look(gate.metric, (here,), gate, "at_least")
        if gate.at_most is not UNSET:
            yield _Look(gate.metric, (here,), gate, "at_most")
        if gate.drop_max is not UNSET and against is not None:
            yield _Look(gate.metric, (here, (against, gate.cohort)), gate, "drop")
        if gate.gap_max is not UNSET:
            # A cohort that the promoted version was scored for must not slip out of the comparison.
            cohorts = {*named, *task.scores.list_cohorts(version)}
            cohorts |= {*task.scores.list_cohorts(against)} if against is not None else set()
            yield _Look(gate.metric, tuple((version, cohort) for cohort in sorted(cohorts - {""})), gate, "gap")
    for cohort in ("", *named):
        yield _Look(task.rule.metric, ((version, cohort),))


def _weigh(task: Task, look: _Look) -> tuple[Finding, RollbackReason | None]:
    try:
        values = [_find_value(task, look, version=version, cohort=cohort) for version, cohort in look.places]
    except _Contested:
        return "contested", None
    except _Missing:
        return "missing", None
    if look.gate is None:
        return "passed", None
    if not values:
        return "missing", None  # a gap between no cohorts is unknown, and not none
    return ("passed", None) if _holds(look.gate, look.bound, values=values) else ("failed", look.bound)


def _find_value(task: Task, look: _Look, *, version: int, cohort: str) -> float:
    final = task.settle(version, cohort)
    if isinstance(final, Contested):
        raise _Contested
    if not isinstance(final, Final) or final.samples < task.rules.samples_min:
        raise _Missing
    if look.metric in final.metrics:
        return final.metrics[look.metric]
    # That there is a score is enough where no gate looks at it: not every task has the metric that counts elsewhere.
    if look.gate is None:
        return 0.0
    raise _Missing


def _holds(gate: Gate, bound: RollbackReason | None, *, values: list[float]) -> bool:
    match bound:
        case "at_least":
            return gate.at_least is UNSET or values[0] >= gate.at_least
        case "at_most":
            return gate.at_most is UNSET or values[0] <= gate.at_most
        case "drop":
            worse = values[0] - values[1] if gate.metric in LESS_IS_BETTER else values[1] - values[0]
            return gate.drop_max is UNSET or worse <= gate.drop_max
    return gate.gap_max is UNSET or max(values, default=0.0) - min(values, default=0.0) <= gate.gap_max


def list_evidence(task: Task, version: int) -> tuple[Evidence, ...]:
    """What was said of a version for all devices together, of the metric that counts."""
    return _collect(task, [_Look(task.rule.metric, ((version, ""),))])


def _collect(task: Task, looks: Iterable[_Look]) -> tuple[Evidence, ...]:
    """Every voice behind these looks, each once, in the order of the looks."""
    found: dict[tuple[int, str, str, str], Evidence] = {}
    for look in looks:
        for version, cohort in look.places:
            # Single voices and no medians: whoever doubts a decision finds them word for word in `evaluations`.
            for name, cohorts in sorted(task.scores.said.get(version, {}).items()):
                voice = cohorts.get(cohort)
                if voice is None or (look.gate is not None and look.metric not in voice.metrics):
                    continue
                metric = look.metric if look.metric in voice.metrics else min(voice.metrics)
                found[version, cohort, name, metric] = Evidence(
                    version=version,
                    cohort=cohort,
                    evaluator=name.rstrip("+"),
                    metric=metric,
                    value=voice.metrics[metric],
                    samples=voice.samples,
                )
    return tuple(found.values())
