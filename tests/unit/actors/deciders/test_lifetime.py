"""How a task ends by its scores: at its target, or because its model has lost its way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from actors.effects.aggregator.release import is_sound
from schemas.events import Noticed, RoundAbandoned, RoundOpened, VersionEvaluated
from schemas.receipts.members import compute_members_root
from schemas.tensors import VALUE_MAX
from tests.worlds.builders import TASK, policy
from tests.worlds.rounds import fill, given, publication, release_stored, task_halted

RULES = policy(stop={"versions_max": 9})


def _scored(version: int, **metrics: float) -> VersionEvaluated:
    return VersionEvaluated(task=TASK, version=version, metrics=metrics, samples=9, cohort="")


def _after_one_version(first: VersionEvaluated | None) -> Any:
    situation = given(RULES)
    if first is not None:
        situation.when(first)
    members = fill(situation, "abc")
    return situation.when(release_stored(0, 1)).then(*publication(0, 1, members))


def test_the_first_score_is_what_later_ones_are_compared_with() -> None:
    """It stands in the journal once; a score that decides nothing leaves no trace there."""
    first = _scored(0, loss=2.0, accuracy=0.5)
    situation = given(RULES).when(first).then(Noticed(fact=first))
    situation.when(_scored(0, loss=9.0)).then_nothing()
    assert situation.state.tasks[TASK].first_loss == 2.0
    _after_one_version(first).when(_scored(1, loss=1_999.0)).then_nothing()


@pytest.mark.parametrize(("first", "loss"), [(2.0, 2_001.0), (0.01, 1_001.0), (2.0, 1e9)])
def test_a_model_that_diverged_halts_its_task(first: float, loss: float) -> None:
    """Guarantee: a loss a thousand times the first model's ends the task at once, and drops the open buffer."""
    situation = _after_one_version(_scored(0, loss=first))
    members = fill(situation, "d", number=1)
    last = _scored(1, loss=loss)
    dropped = RoundAbandoned(task=TASK, round=1, members_root=compute_members_root(members), members=1, reason="halted")
    situation.when(last).then(Noticed(fact=last), dropped, task_halted("diverged", 1))
    situation.when(_scored(1, loss=loss)).then_nothing()


def test_without_a_first_score_nothing_is_compared() -> None:
    """Some losses are large by nature: a number alone says nothing."""
    _after_one_version(None).when(_scored(1, loss=1e9)).then_nothing()


def test_a_score_of_no_version_here_ends_nothing() -> None:
    """A score of a version that does not exist is of another log."""
    _after_one_version(_scored(0, loss=1.0)).when(_scored(2, loss=1e9)).then_nothing()


def test_a_model_that_no_device_can_train_is_the_last() -> None:
    """Guarantee: it is published, so that it can be looked at, and halts the task; a round behind it opens no other."""
    situation = given(RULES)
    members = fill(situation, "abc")
    others = fill(situation, "def")
    unsound = replace(release_stored(0, 1), is_sound=False)
    situation.when(unsound).then(*publication(0, 1, members), task_halted("diverged", 1))
    situation.when(replace(release_stored(1, 2), is_sound=False)).then(*publication(1, 2, others))
    assert not [event for event in situation.caused if isinstance(event, RoundOpened)]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, VALUE_MAX * 1.01, -VALUE_MAX * 1.01])
def test_a_model_is_sound_while_devices_can_train_it(value: float) -> None:
    """One element that is not finite, or beyond what a device takes, is enough."""
    assert is_sound(np.array([0, VALUE_MAX, -VALUE_MAX], np.float32))
    assert not is_sound(np.array([0, value], np.float32))
