"""A preset means what a textbook means by its name, and each field of it can be set."""

from __future__ import annotations

import pytest

from schemas.policy import PolicyError, parse
from schemas.policy.presets import PRESETS

REST = """
model = "rings:model"
[selection]
devices_expected = 40
[stop]
versions_max = 15
"""


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_a_policy(name: str) -> None:
    """With a model, the number of devices and an end each of them holds; none is left in what the log gets."""
    policy = parse(f'preset = "{name}"\n{REST}')
    assert not hasattr(policy, "preset")
    assert policy.aggregation.updates_per_round == (1 if name == "fedasync" else 10)
    assert (policy.privacy is not None) is (name == "dp-fedbuff")


def test_fedavg_is_synchronous_exact_and_weighted_by_examples() -> None:
    """Guarantee: nothing is lost on the way, K devices train a round, and the mean is over examples."""
    policy = parse(f'preset = "fedavg"\n{REST}')
    assert (policy.staleness.max_versions, policy.selection.concurrency) == (0, 10)
    assert (policy.aggregation.normalisation, policy.aggregation.samples_max) == ("weight", 10_000)
    assert (policy.compression.codec, policy.compression.error_feedback) == ("float32", False)
    assert policy.clipping.norm >= 64
    assert policy.clipping.step < 1e-4
    assert (policy.optimizer.rule, policy.optimizer.learning_rate) == ("sgd", 1.0)


def test_what_the_file_says_counts() -> None:
    """A field beside the preset is the file's own, also where others follow from it; so is a change by an option."""
    text = f'preset = "fedavg"\n{REST}[clipping]\nnorm = 2.0\n'
    policy = parse(text, changes=["aggregation.updates_per_round=4", "training.epochs=3"])
    assert (policy.clipping.norm, policy.clipping.steps) == (2.0, 1 << 20)
    assert (policy.selection.concurrency, policy.training.epochs) == (4, 3)
    assert parse(text, changes=["selection.concurrency=13"]).selection.concurrency == 13
    assert parse(text, changes=["preset=fedprox"]).training.algorithm == "fedprox"


def test_fedasync_keeps_few_at_work() -> None:
    """Guarantee: staleness stays near the paper's 4; thirty at work make the rings swing, and never learn."""
    policy = parse(f'preset = "fedasync"\n{REST}')
    assert (policy.selection.concurrency, policy.optimizer.learning_rate, policy.staleness.exponent) == (5, 0.6, 0.5)
    assert parse(f'preset = "fedasync"\n{REST}', changes=["selection.devices_expected=3"]).selection.concurrency == 3


def test_a_small_population_is_its_own_cohort() -> None:
    """Five devices make rounds of five."""
    policy = parse(f'preset = "fedbuff"\n{REST}', changes=["selection.devices_expected=5"])
    assert (policy.aggregation.updates_per_round, policy.selection.concurrency) == (5, 5)


@pytest.mark.parametrize("name", ['"fedavgg"', "7", "[]"])
def test_a_name_that_is_no_preset_is_refused(name: str) -> None:
    """The message has those that there are."""
    with pytest.raises(PolicyError, match="fedavg, fedprox, fedbuff, fedasync, dp-fedbuff"):
        parse(f"preset = {name}\n{REST}")


def test_without_a_preset_nothing_is_filled_in() -> None:
    """The defaults of a policy are what they were."""
    with pytest.raises(PolicyError, match="concurrency"):
        parse(REST + "[aggregation]\nupdates_per_round = 3\n")
