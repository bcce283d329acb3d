"""A release is one computation, shared by publishing, recovery and full replay: sum, noise, mean, step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from actors.deciders.arithmetic import noise, optimizers, sums
from actors.effects.aggregator.noise_ahead import NoiseAhead
from actors.effects.aggregator.release import NoiseKeyMissing, Start, compute_release
from actors.keys import NoiseKey
from schemas.events import TensorSpec
from schemas.policy import Policy
from tests.worlds.builders import NOISE, mechanism, policy, private_policy, round_proposed, task_created

TOTAL = np.array([3, -6, 9, 0], np.int64) << 40
ZEROS = np.zeros(4, np.float32)


def _release(rules: Policy, key: NoiseKey | None = NOISE, **start: Any) -> Any:
    proposed = round_proposed(mechanism=mechanism(rules))
    begin = Start(**{"model": ZEROS, "moments": None, "version": 0, **start})
    return compute_release(
        task_created(rules), proposed, total=TOTAL, start=begin, noise=None if key is None else NoiseAhead(key)
    )


def test_the_digest_is_of_the_sum_before_noise() -> None:
    """Full replay recomputes the sum from bodies without any key, and compares."""
    assert _release(policy()).sum_sha256 == _release(private_policy()).sum_sha256 == sums.sum_digest(TOTAL)


def test_without_privacy_the_model_moves_by_the_mean() -> None:
    """K updates of full weight: sum / K in units of the grid's step."""
    rules = policy()
    expected = TOTAL / (3 << 20) * rules.clipping.step
    assert _release(rules).model == pytest.approx(expected)
    assert _release(rules, model=ZEROS + 1).model == pytest.approx(expected + 1)


def test_with_privacy_the_noise_is_that_of_the_proposal() -> None:
    """Law 7: drawn once, from the key and the proposal, and added to the sum before the mean."""
    rules = private_policy()
    drawn = noise.draw(NOISE.secret, round_proposed(mechanism=mechanism(rules)), parameters=4)
    assert drawn.any()
    assert _release(rules).model == pytest.approx((TOTAL + drawn) / (3 << 20) * rules.clipping.step)
    assert _release(rules).model.tobytes() == _release(rules).model.tobytes()


def test_another_key_releases_nothing() -> None:
    """A mechanism names its key: noise from another one could be drawn a second time, differently."""
    with pytest.raises(NoiseKeyMissing, match=NOISE.id.hex()):
        _release(private_policy(), NoiseKey(bytes(32)))


def test_the_rate_follows_the_version() -> None:
    """A schedule of the server is a function of the version that a round steps from, and of nothing else."""
    rules = policy(server_schedule={"rule": "step", "step_versions": 3, "decay": 0.5})
    plain = _release(policy()).model
    for version, factor in ((0, 1.0), (2, 1.0), (3, 0.5), (8, 0.25)):
        assert _release(rules, version=version).model == pytest.approx(plain * factor)


def test_moments_are_carried_from_release_to_release() -> None:
    """Momentum starts from zeros, and goes on from what the version before has published."""
    rules = policy(optimizer={"rule": "momentum", "momentum": 0.5})
    first = _release(rules)
    second = _release(rules, model=first.model, moments=first.moments)
    assert second.moments == pytest.approx(first.moments * 1.5)


def test_what_is_averaged_is_not_stepped() -> None:
    """Statistics such as BatchNorm's move to the mean of the devices, whatever the optimizer makes of gradients."""
    rules = policy(optimizer={"rule": "adam", "learning_rate": 0.5}, staleness={"max_versions": 0})
    tensors = (TensorSpec(name="w", shape=(2,)), TensorSpec(name="mean", shape=(2,), role="averaged"))
    created, proposed = task_created(rules, tensors=tensors), round_proposed(mechanism=None)
    found = compute_release(created, proposed, total=TOTAL, start=Start(ZEROS + 1, None, 0), noise=None)
    plain = _release(rules, model=ZEROS + 1)
    assert found.model[:2].tolist() == plain.model[:2].tolist()
    assert found.model[2:] == pytest.approx(1 + TOTAL[2:] / (3 << 20) * rules.clipping.step)
    assert found.moments is not None
    assert found.moments.tolist() == plain.moments.reshape(2, 4)[:, :2].reshape(-1).tolist()


def test_what_is_averaged_counts_by_the_staleness_that_may_be() -> None:
    """As docs/policy.md says: K / (K + 2 min(concurrency, max_versions K)) of the mean; what trains in full."""
    rules = policy(
        staleness={"max_versions": 4},
        selection={"devices_expected": 9, "concurrency": 6},
        aggregation={"updates_per_round": 3},
    )
    tensors = (TensorSpec(name="w", shape=(2,)), TensorSpec(name="mean", shape=(2,), role="averaged"))
    created, proposed = task_created(rules, tensors=tensors), round_proposed(mechanism=None)
    found = compute_release(created, proposed, total=TOTAL, start=Start(ZEROS, None, 0), noise=None)
    mean = TOTAL / (3 << 20) * rules.clipping.step
    assert found.model == pytest.approx(mean * [1, 1, 3 / 15, 3 / 15])


@pytest.mark.parametrize(("concurrency", "members"), [(50, 50), (80, 20), (60, 6)])
def test_a_stale_statistic_does_not_overshoot(concurrency: int, members: int) -> None:
    """Guarantee: a variance that is averaged settles under staleness, and never falls below zero."""
    rules = policy(
        selection={"devices_expected": 100, "concurrency": concurrency}, aggregation={"updates_per_round": members}
    )
    draw, versions, bases = np.random.default_rng(5), [1.0], [0] * concurrency
    told: list[float] = []
    while len(versions) < 60:
        device = draw.integers(concurrency)
        # Ten local batches with torch's momentum of 0.1 leave a third of what the version had.
        told.append(0.65 * (0.05 - versions[bases[device]]))
        bases[device] = len(versions) - 1
        if len(told) == members:
            delta = optimizers.damp(np.array([0.0, np.mean(told)]), rules, trained=1, members=members)
            stepped = optimizers.step(
                rules.optimizer, np.array([0, versions[-1]], np.float32), moments=None, delta=delta, trained=1
            )
            versions.append(float(stepped.model[1]))
            told = []
    assert min(versions) > 0.0
    assert versions[-1] < 0.2
