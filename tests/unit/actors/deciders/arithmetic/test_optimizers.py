"""The server's step: FedBuff's own numbers, an independent reference, and the same bits every time."""

from __future__ import annotations

import numpy as np
import pytest

from actors.deciders.arithmetic import sums
from actors.deciders.arithmetic.optimizers import MOMENTS, mean, step
from schemas.policy import WEIGHT_ONE, Optimizer, Policy
from schemas.tensors import Floats, Quanta, clipping, to_grid
from tests.worlds.builders import policy

DELTAS, STALENESS = (1.0, 2.0, 4.0), (0, 1, 3)
D = 64


def _mean_of(rules: Policy) -> float:
    """The round that docs/comparison.md compares systems with, through the table of weights and the integer sum."""
    weights = [rules.weights()[staleness] for staleness in STALENESS]
    total = sums.RunningSum(1)
    for delta, weight in zip(DELTAS, weights, strict=True):
        grid = Quanta.from_values(to_grid(np.array([delta], np.float32), rules.clipping))
        total.add(grid, weight=weight, scale=clipping.clip_scale(grid, rules.clipping.steps))
    return float(mean(total.total(), rules, members=3, weight_sum=sum(weights))[0])


GRID = 7 / 3 / WEIGHT_ONE  # three weights, each half a unit off at most


def test_fedbuffs_mean_is_over_the_count() -> None:
    """K = 3, deltas 1, 2, 4 with staleness 0, 1, 3: the paper's form (FedBuff, AISTATS 2022) gives 1.47140452."""
    assert _mean_of(policy()) == pytest.approx(1.47140452, abs=GRID)


def test_the_mean_over_weights_has_its_name() -> None:
    """Normalised by the sum of weights the same round gives 2.0; which one it is stands in the policy."""
    assert _mean_of(policy(aggregation={"normalisation": "weight"})) == pytest.approx(2.0, abs=GRID)


def test_constant_weights_give_the_plain_mean() -> None:
    """Without a staleness rule the mean is the mean, to the last rounding."""
    assert _mean_of(policy(staleness={"rule": "constant"})) == pytest.approx(7 / 3, rel=1e-15)


def _rounds(count: int) -> list[np.ndarray]:
    drawn = np.random.default_rng(7)
    return [drawn.normal(0, 0.1, D) for _ in range(count)]


def _reference(optimizer: Optimizer, deltas: list[np.ndarray]) -> Floats:
    """The rules once more, one number at a time in Python's own floats; rounded where a release is published."""
    f32 = np.float32
    model, first, second = [f32(0)] * D, [f32(0)] * D, [f32(0)] * D
    for delta in deltas:
        for i, d in enumerate(float(x) for x in delta):
            x, m, v = float(model[i]), float(first[i]), float(second[i])
            match optimizer.rule:
                case "sgd":
                    moved = x + optimizer.learning_rate * d
                case "momentum":
                    m = optimizer.momentum * m + d
                    moved = x + optimizer.learning_rate * m
                case "adam":
                    m = optimizer.beta1 * m + (1 - optimizer.beta1) * d
                    v = optimizer.beta2 * v + (1 - optimizer.beta2) * (d * d)
                    moved = x + optimizer.learning_rate * (m / (v**0.5 + optimizer.tau))
                case "adagrad":
                    m = optimizer.beta1 * m + (1 - optimizer.beta1) * d
                    v = v + d * d
                    moved = x + optimizer.learning_rate * (m / (v**0.5 + optimizer.tau))
                case "yogi":
                    m = optimizer.beta1 * m + (1 - optimizer.beta1) * d
                    sign = (v > d * d) - (v < d * d)
                    v = v - (1 - optimizer.beta2) * (d * d) * sign
                    moved = x + optimizer.learning_rate * (m / (v**0.5 + optimizer.tau))
            model[i], first[i], second[i] = f32(moved), f32(m), f32(v)
    return np.array(model, f32)


def _stepped(optimizer: Optimizer, deltas: list[np.ndarray]) -> tuple[Floats, Floats | None]:
    model, moments = np.zeros(D, np.float32), None
    for delta in deltas:
        model, moments = step(optimizer, model, moments=moments, delta=delta)
    return model, moments


RULES = [
    Optimizer(rule="sgd", learning_rate=0.7),
    Optimizer(rule="momentum", learning_rate=0.7),
    Optimizer(rule="adam"),
    Optimizer(rule="adagrad", learning_rate=0.1),
    Optimizer(rule="yogi", learning_rate=0.05),
]


@pytest.mark.parametrize("optimizer", RULES, ids=lambda optimizer: optimizer.rule)
def test_a_rule_equals_its_reference(optimizer: Optimizer) -> None:
    """Ten releases give the model of an implementation that shares no line with this one."""
    model, _ = _stepped(optimizer, _rounds(10))
    assert model == pytest.approx(_reference(optimizer, _rounds(10)), rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("optimizer", RULES, ids=lambda optimizer: optimizer.rule)
def test_a_restart_from_what_was_published_gives_the_same_bits(optimizer: Optimizer) -> None:
    """Memory holds nothing finer than the published float32 model and moments: going on from bytes changes no bit."""
    straight, moments = _stepped(optimizer, _rounds(6))
    model, carried = _stepped(optimizer, _rounds(6)[:3])
    assert model.dtype == np.float32
    model = np.frombuffer(model.tobytes(), np.float32)
    carried = None if carried is None else np.frombuffer(carried.tobytes(), np.float32)
    for delta in _rounds(6)[3:]:
        model, carried = step(optimizer, model, moments=carried, delta=delta)
    assert model.tobytes() == straight.tobytes()
    assert (carried is None) == (moments is None)
    if carried is not None and moments is not None:
        assert carried.tobytes() == moments.tobytes()


@pytest.mark.parametrize("optimizer", RULES, ids=lambda optimizer: optimizer.rule)
def test_a_step_touches_no_other_element_and_no_argument(optimizer: Optimizer) -> None:
    """A step is elementwise: an element's bits do not depend on its neighbours, and what it was given stays."""
    [delta] = _rounds(1)
    moments = np.full(MOMENTS[optimizer.rule] * D, 0.25, np.float32) if MOMENTS[optimizer.rule] else None
    model = np.linspace(-1, 1, D).astype(np.float32)
    before = (model.tobytes(), delta.tobytes(), None if moments is None else moments.tobytes())
    whole = step(optimizer, model, moments=moments, delta=delta)
    assert before == (model.tobytes(), delta.tobytes(), None if moments is None else moments.tobytes())
    part = None if moments is None else moments.reshape(-1, D)[:, :3].reshape(-1)
    assert step(optimizer, model[:3], moments=part, delta=delta[:3]).model.tobytes() == whole.model[:3].tobytes()


def test_the_published_vectors_have_their_sizes() -> None:
    """sgd carries nothing, momentum one vector, adam two; all in float32."""
    for optimizer in RULES:
        model, moments = _stepped(optimizer, _rounds(2))
        assert model.shape == (D,)
        assert (0 if moments is None else moments.size) == MOMENTS[optimizer.rule] * D
        assert moments is None or moments.dtype == np.float32
