"""The policy of `fedlog measure`: it follows from the measured task's, and whole numbers stay whole in it."""

from __future__ import annotations

import msgspec
import pytest

from ops.operator.errors import ModelMismatch
from ops.operator.questions import Question, make_policy
from schemas.policy import Evaluation, Policy, Privacy, Training, check_policy
from tests.survey import training_policy
from tests.worlds.builders import policy

TORCH = policy(
    model="client_agent.learning.models:softmax_regression",
    optimizer={"rule": "adam"},
    compression={"codec": "topk"},
    aggregation={"samples_max": 9, "normalisation": "weight"},
)


def _make(rules: Policy = TORCH, **changes: object) -> Policy:
    return make_policy(rules, "rings", question=Question(version=4, **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rules", "metrics"),
    [
        (TORCH, ["accuracy", "loss"]),
        (msgspec.structs.replace(TORCH, training=Training(loss="mse")), ["loss"]),
        (msgspec.structs.replace(TORCH, evaluation=Evaluation(metrics=("f1", "top5"))), ["f1", "top5"]),
    ],
)
def test_the_metrics_are_those_of_the_task(rules: Policy, metrics: list[str]) -> None:
    """Each over devices and over examples, from three statistics; whatever the task's optimizer and codec are."""
    made = _make(rules)
    assert check_policy(made) == made
    assert made.measure is not None
    products = [f"{name}_times_examples" for name in metrics]
    assert set(made.measure.statistics) == {"examples", *metrics, *products}
    assert made.evaluation.metrics == tuple(metrics)
    assert (made.measure.of, made.measure.version, made.model) == ("rings", 4, rules.model)


def test_bounds_and_clip_are_powers_of_two() -> None:
    """The grid divides 1 then, so that a count of examples is published as it is."""
    made = _make()
    assert made.measure is not None
    for statistic in made.measure.statistics.values():
        in_steps = made.clipping.steps / made.clipping.norm / statistic.bound
        assert in_steps == int(in_steps) >= 1 or statistic.bound > 1024
    assert made.clipping.norm**2 >= len(made.measure.statistics)


def test_a_learner_of_ones_own_is_asked_for_what_it_gives() -> None:
    """Nobody knows its metrics, so they are named; the policy does not ask the torch learner for them."""
    with pytest.raises(ModelMismatch, match="name them"):
        _make(training_policy())
    made = check_policy(_make(training_policy(), metrics=["sum"], bounds={"sum": 8.0}))
    assert made.measure is not None
    assert made.measure.statistics["sum"].bound == 8.0
    assert made.evaluation.metrics == ()


def test_what_is_chosen_counts() -> None:
    """Devices, data, and privacy."""
    noise = Privacy(noise_multiplier=1.0, rho_max=2.0)
    made = _make(devices=9, data="mine:load", privacy=noise, examples_max=2048)
    assert (made.aggregation.updates_per_round, made.selection.concurrency, made.data) == (9, 10, "mine:load")
    assert (made.privacy, made.stop.versions_max) == (noise, 1)
    assert made.measure is not None
    assert made.measure.statistics["accuracy_times_examples"].bound == 2048.0
