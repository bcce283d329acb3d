"""Judges whether drift held a rollout back as its gates say: written from docs/rollout.md, knowing no decider."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from msgspec import UNSET

from schemas.events import DriftEnded, DriftFound, Noticed, RolledBack, TaskCreated
from schemas.policy import Policy
from tests.judges.logbook import differences

Standing = dict[tuple[str, str, str, str], DriftFound]


def note(standing: Standing, fact: DriftFound | DriftEnded) -> None:
    """Take in what a measure task has found, or that it has ended."""
    standing.pop(place := _place(fact), None)
    if isinstance(fact, DriftFound):
        standing[place] = fact


def _place(fact: DriftFound | DriftEnded) -> tuple[str, str, str, str]:
    return fact.task, fact.kind, fact.cohort, fact.measure


def is_looked_at(policy: Policy, fact: Any) -> bool:
    """Whether a gate names its task, its measure, and its cohort or none."""
    gates = [gate for gate in policy.rollout.gates if gate.drift_of is not UNSET] if policy.rollout else []
    return any(
        gate.drift_of == fact.task and gate.metric == fact.measure and gate.cohort in ("", fact.cohort)
        for gate in gates
    )


def list_beyond(policy: Policy, standing: Standing) -> list[DriftFound]:
    """What stands and is more than a gate allows."""
    return [
        fact
        for fact in standing.values()
        for gate in policy.rollout.gates  # type: ignore[union-attr]
        if gate.drift_of == fact.task
        and gate.metric == fact.measure
        and gate.cohort in ("", fact.cohort)
        and fact.value / 1e6 > gate.drift_max  # type: ignore[operator]
    ]


def rollback_faults(policy: Policy, standing: Standing, event: RolledBack) -> Iterator[str]:
    """Whether a rollback for drift names what stands, and one for anything else names none."""
    if event.reason != "drift":
        if event.drift is not UNSET:
            yield f"{event.version} is rolled back by {event.reason}, and names drift"
    elif event.drift not in list_beyond(policy, standing):
        yield f"{event.version} is rolled back for {event.drift}, which does not stand beyond a gate"


def relayed_drift_faults(told: Sequence[Any], heard: Sequence[Any]) -> Iterator[str]:
    """What is found is noticed once where a gate looks at it, in the order of `rounds`; an end where it was found."""
    policies: list[Policy] = []
    standing: Standing = {}
    expected = []
    for fact in told:
        if isinstance(fact, TaskCreated):
            policies.append(fact.policy)
        elif isinstance(fact, DriftFound | DriftEnded) and any(is_looked_at(policy, fact) for policy in policies):
            if isinstance(fact, DriftFound) or _place(fact) in standing:
                expected.append(fact)
            note(standing, fact)
    noticed = [fact for fact in heard if isinstance(fact, DriftFound | DriftEnded)]
    yield from differences("the rollout's notices of drift", expected, noticed)


def is_drift(event: Any) -> bool:
    """Whether a journal notices drift here."""
    return isinstance(event, Noticed) and isinstance(event.fact, DriftFound | DriftEnded)
