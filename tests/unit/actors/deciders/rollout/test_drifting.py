"""Data that move hold a rollout back: nothing new is tried, and what a canary has is taken back, by what was found."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec import UNSET

from schemas.events import CanaryStarted, CandidateStaged, DriftEnded, DriftFound, Noticed, RolledBack, Tick
from schemas.policy import PolicyError, check_policy
from tests.worlds.builders import TASK, task_created
from tests.worlds.drift.asking import drift_found
from tests.worlds.releasing.deciding import (
    HOLD_MS,
    PATIENCE_MS,
    find_task,
    kept,
    model_of,
    order,
    promote_first,
    published,
    rolled_out,
    rollout_policy,
    score,
)

ASKED = f"{TASK}.ages"
GATES = [{"metric": "accuracy", "at_least": 0.5}, {"metric": "psi", "drift_of": ASKED, "drift_max": 0.25}]
RULES = rollout_policy(gates=GATES)


def found(version: int = 4, value: int = 300_000, **changes: Any) -> DriftFound:
    """What the measure task's aggregator says."""
    return drift_found(version, value, **{"task": ASKED, "reference": ASKED, **changes})


def ended(version: int = 5, **changes: Any) -> DriftEnded:
    """That it is over."""
    one = found(version, 0, **changes)
    return DriftEnded(**{name: getattr(one, name) for name in one.__struct_fields__})


def scored(version: int) -> list[Any]:
    """A version, and all that is asked of it."""
    return [published(version), score(version, 0.9, cohort="lab"), score(version, 0.9)]


def test_nothing_is_staged_while_data_have_moved() -> None:
    """A version would have its only chance and lose it; once it has ended, the newest is tried."""
    here = rolled_out(RULES).when(found()).then(Noticed(fact=found()))
    here.when(*scored(1), Tick()).then_nothing()
    over = ended()
    here.when(over).then(Noticed(fact=over), CandidateStaged(task=TASK, version=1, previous=None))


def test_a_canary_is_rolled_back_by_what_was_found() -> None:
    """In the decision that hears of it, with the finding word for word; production stays as it is."""
    here = promote_first(RULES).when(*scored(2), kept(2, 1))
    assert isinstance(here.caused[-1], CanaryStarted)
    drift = found()
    here.when(drift).then(
        Noticed(fact=drift),
        RolledBack(task=TASK, version=2, to=1, reason="drift", evidence=(), model=model_of(1), drift=drift),
    )
    assert find_task(here).promoted == 1
    here.when(*scored(3), ended()).then(Noticed(fact=ended()), CandidateStaged(task=TASK, version=3, previous=1))


def test_a_candidate_that_nobody_has_waits() -> None:
    """Before its first stage it is not lost, however long it takes."""
    here = rolled_out(RULES).when(*scored(1), found())
    here.when(kept(1)).then(kept(1))
    here.at(PATIENCE_MS + HOLD_MS).when(Tick()).then_nothing()
    here.when(ended())
    assert [type(event) for event in here.caused] == [Noticed, CanaryStarted]


@pytest.mark.parametrize(
    "other",
    [
        found(value=250_000),
        found(measure="ks"),
        found(task=f"{TASK}.others"),
    ],
    ids=["not more than the gate allows", "another measure", "another task"],
)
def test_a_gate_looks_at_its_own_drift_alone(other: DriftFound) -> None:
    """Whatever else is found changes nothing."""
    here = rolled_out(RULES).when(*scored(1), kept(1)).when(other)
    assert not any(isinstance(event, RolledBack) for event in here.caused)


@pytest.mark.parametrize(("cohort", "is_back"), [("lab", True), ("home", False), ("", False)])
def test_a_gate_may_look_at_one_cohort(cohort: str, is_back: bool) -> None:
    """Without a name it looks at all of them."""
    gates = [{**GATES[1], "cohort": "lab"}]
    here = rolled_out(rollout_policy(gates=gates)).when(*scored(1), kept(1)).when(found(cohort=cohort))
    assert any(isinstance(event, RolledBack) for event in here.caused) == is_back
    anyone = rolled_out(RULES).when(*scored(1), kept(1)).when(found(cohort=cohort))
    assert isinstance(anyone.caused[-1], RolledBack)


def test_the_worst_of_several_is_named() -> None:
    """Each ends by itself, and of those that stand the furthest is the reason."""
    here = rolled_out(RULES).when(found(cohort="lab"), found(value=400_000, cohort="home"), *scored(1))
    assert not any(isinstance(event, CandidateStaged) for event in here.caused)
    task = find_task(here)
    assert task.find_drift() == found(value=400_000, cohort="home")
    here.when(ended(cohort="home"))
    assert find_task(here).find_drift() == found(cohort="lab")
    here.when(ended(cohort="lab"))
    assert find_task(here).find_drift() is None


def test_the_newest_word_counts() -> None:
    """A distance that shrinks below the gate and stays above the measure task's own bound holds nobody back."""
    here = rolled_out(RULES).when(found(4), *scored(1))
    here.when(found(5, 210_000, since=4))
    assert [type(event) for event in here.caused] == [Noticed, CandidateStaged]


def test_an_order_promotes_all_the_same() -> None:
    """The operator has the last word."""
    here = rolled_out(RULES).when(found(), *scored(1), order("promote", 1))
    assert find_task(here).promoted == 1


def test_what_is_promoted_stays() -> None:
    """That the version before would do better on other data nobody knows."""
    here = promote_first(RULES).when(found())
    assert here.caused == [Noticed(fact=found())]
    assert find_task(here).promoted == 1


def test_an_end_of_what_nobody_heard_is_no_news() -> None:
    """Found before the rollout began, ended after."""
    rolled_out(RULES).when(ended()).then_nothing()


def test_a_halted_rollout_moves_for_no_drift() -> None:
    """It is heard, and acted upon when the operator resumes."""
    here = rolled_out(RULES).when(*scored(1), kept(1), order("halt"))
    here.when(found()).then(Noticed(fact=found()))
    here.when(order("resume", number=2))
    assert isinstance(here.caused[-1], RolledBack)
    assert here.caused[-1].drift == found()


def test_two_tasks_hear_of_it_once() -> None:
    """One notice, and each moves by its own gates."""
    other = task_created(rollout_policy(gates=[{**GATES[1], "drift_max": 9.0}]), task=f"{TASK}.other")
    here = rolled_out(RULES).given(Noticed(fact=other)).when(*scored(1), kept(1)).when(found())
    assert [type(event) for event in here.caused] == [Noticed, RolledBack]
    assert {name: task.drifts for name, task in here.state.tasks.items()} == {
        TASK: {f"{ASKED}/drift//psi": found()},
        f"{TASK}.other": {f"{ASKED}/drift//psi": found()},
    }


def test_a_task_without_such_gates_knows_nothing_of_it() -> None:
    """Its state keeps the digest that it had before there were any."""
    here = rolled_out().when(found()).then_nothing()
    assert find_task(here).drifts is UNSET


def test_a_gate_of_drift_needs_no_score_of_its_cohort() -> None:
    """Devices of that cohort are asked, and not scored."""
    rules = rollout_policy(gates=[{**GATES[1], "cohort": "elsewhere"}])
    here = rolled_out(rules).when(*scored(1))
    assert isinstance(here.caused[-1], CandidateStaged)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no task": ({"drift_of": ""}, "drift_of: name the measure task"),
    "no bound": ({"drift_max": UNSET}, "drift_max: say how much"),
    "not a number": ({"drift_max": float("nan")}, "drift_max: say how much"),
    "below zero": ({"drift_max": -1.0}, "drift_max: say how much"),
    "a score": ({"metric": "accuracy"}, "drift is measured as psi or ks"),
    "a bound of scores": ({"at_least": 0.5}, "at_least: is of scores"),
    "no cohort": ({"cohort": "at home"}, "'at home' is no name"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_gate_that_cannot_hold_is_refused(case: str) -> None:
    """When the policy is written, with what to say instead."""
    changes, words = REFUSED[case]
    gate = {name: value for name, value in {**GATES[1], **changes}.items() if value is not UNSET}
    with pytest.raises(PolicyError, match=words):
        check_policy(rollout_policy(gates=[gate]))


def test_a_bound_without_a_task_is_refused() -> None:
    """Nobody would ever find anything."""
    with pytest.raises(PolicyError, match="drift_of: name the measure task"):
        check_policy(rollout_policy(gates=[{"metric": "psi", "drift_max": 0.2}]))


def test_the_evidence_is_the_event_itself() -> None:
    """Word for word, so that whoever doubts a decision finds it in `rounds`."""
    here = rolled_out(RULES).when(*scored(1), kept(1)).when(found())
    assert msgspec.to_builtins(here.caused[-1].drift) == msgspec.to_builtins(found())
