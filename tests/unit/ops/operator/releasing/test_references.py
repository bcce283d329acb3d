"""A reference is copied when its task is created, in that task's own form; what means something else is refused."""

from __future__ import annotations

from typing import Any

import pytest

from ops.operator import models, tasks
from ops.operator.errors import ModelMismatch, TaskUnknown, VersionUnknown
from schemas.creations import find_faults
from schemas.events import Reference, TaskCreated
from schemas.policy import Policy
from tests.places import home_of
from tests.survey import RINGS, Survey, training_policy
from tests.worlds.drift.asking import COHORTS, DEVICES, all_in, ask, drift_policy

OLD = "rings.before"
AWAY = next(name for name in map("far{}".format, range(99)) if home_of(name) != home_of(OLD))


@pytest.fixture(scope="module")
def asked() -> Survey:
    """A task with one answer, to which tests only add others."""
    world = Survey(drift_policy(measure={"release": "mean"}), task=OLD)
    ask(world, all_in(0, 0, 0, 2))
    return world


def create(world: Survey, name: str, rules: Policy | None = None, **table: Any) -> TaskCreated:
    """Another task that is compared with it."""
    return world.ask(name, rules or drift_policy(drift={"of": OLD, "version": -1, **table}))


@pytest.mark.parametrize("name", ["rings.same", AWAY])
def test_the_answers_are_copied_into_the_tasks_own_partition(asked: Survey, name: str) -> None:
    """As sums where this task releases sums, with who answered; and every actor takes the creation."""
    created = create(asked, name)
    assert isinstance(reference := created.reference, Reference)
    assert (reference.task, reference.version, reference.members, reference.noise) == (OLD, 1, DEVICES, 0.0)
    assert models.read(asked.log, reference.model, parameters=4).tolist() == [12, 0, 4, 0]
    assert reference.model.partition == home_of(name)
    assert [*find_faults(created)] == []


def test_a_mean_stays_one_where_means_are_released(asked: Survey) -> None:
    """Nothing is scaled twice."""
    rules = drift_policy(measure={"release": "mean"}, drift={"of": OLD, "version": 1})
    created = create(asked, "rings.mean", rules)
    assert isinstance(created.reference, Reference)
    assert models.read(asked.log, created.reference.model, parameters=4).tolist() == [0.75, 0, 0.25, 0]


def test_what_is_not_compared_is_not_copied(asked: Survey) -> None:
    """Other statistics of this task are zeros in it."""
    statistics = {"first": {"bound": 9.0}, "histogram": {"bound": 1.0, "shape": (4,)}}
    created = create(asked, "rings.more", drift_policy(measure={"statistics": statistics}, drift={"of": OLD}))
    assert isinstance(created.reference, Reference)
    assert models.read(asked.log, created.reference.model, parameters=5).tolist() == [0, 12, 0, 4, 0]


def test_the_noise_of_a_private_reference_is_told() -> None:
    """Its own, whatever this task's privacy is: by it a replay judges what is chance."""
    rules = drift_policy(privacy={"noise_multiplier": 2.0, "rho_max": 50.0}, stop={"versions_max": 2})
    world = Survey(rules, task=OLD)
    ask(world, all_in(0))
    created = create(world, "rings.open")
    assert isinstance(created.reference, Reference)
    assert created.reference.noise == pytest.approx(2.0 * 2.0)


REFUSED: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "no such task": ({"of": "nowhere"}, TaskUnknown, "nowhere"),
    "no such version": ({"version": 7}, VersionUnknown, "no version 7"),
    "nothing that measures": ({"of": RINGS}, ModelMismatch, "measures nothing"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_answer_is_refused(asked: Survey, case: str) -> None:
    """Before anything is written, with what is missing."""
    table, error, words = REFUSED[case]
    if table.get("of") == RINGS and RINGS not in tasks.find_views(asked.log):
        asked.ask(RINGS, training_policy())
    with pytest.raises(error, match=words):
        create(asked, "rings.never", **table)


def test_another_question_is_refused(asked: Survey) -> None:
    """Bins of another number, a statistic that is not there, or rows that the other does not have."""
    five = {"histogram": {"bound": 1.0, "shape": (5,)}}
    for rules in (
        drift_policy(measure={"statistics": five}, drift={"of": OLD}),
        drift_policy(
            measure={"statistics": {"ages": {"bound": 1.0, "shape": (4,)}}}, drift={"of": OLD, "statistic": "ages"}
        ),
        drift_policy(cohorts=COHORTS, drift={"of": OLD}),
    ):
        with pytest.raises(ModelMismatch, match="has no statistic"):
            create(asked, "rings.never", rules)


def test_an_answer_has_to_be_there() -> None:
    """Version 0 of a measure task is what it began with, and says nothing of anybody."""
    world = Survey(drift_policy(), task=OLD)
    with pytest.raises(ModelMismatch, match="has no answer yet"):
        create(world, "rings.early")
