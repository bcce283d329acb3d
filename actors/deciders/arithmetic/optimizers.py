"""The server's step: from the exact sum of a round to the next float32 model.

Elementwise float64, no reductions and no BLAS, started from the published float32 model and float32 moments and rounded
once a release (law 6), so that any machine recomputes the same bits.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from schemas.policy import Optimizer, Policy
from schemas.tensors import Floats, Grid

Doubles = npt.NDArray[np.float64]

# float32 vectors that a rule carries from release to release
MOMENTS = {"sgd": 0, "momentum": 1, "adam": 2, "adagrad": 2, "yogi": 2}


class Stepped(NamedTuple):
    """The next model, shape (parameters,), and the rule's vectors after it, shape (n * parameters,) or None."""

    model: Floats
    moments: Floats | None


def mean(total: Grid, policy: Policy, *, members: int, weight_sum: int) -> Doubles:
    """The round's mean delta, in units of the parameters.

    "count": sum of weighted deltas / K, FedBuff's form (Nguyen et al. 2022, algorithm 1); "weight": / sum of weights.
    """
    # Weights are integers of 2^20 a unit, or of 15 where they are masked, which "count" has to divide out as well.
    whole = weight_sum if policy.aggregation.normalisation == "weight" else members * policy.weight_one
    return np.multiply(total, policy.clipping.step / whole, dtype=np.float64)


def damp(delta: Doubles, policy: Policy, *, trained: int, members: int) -> Doubles:
    """The same with what is averaged, the elements from `trained` on, times K / (K + 2 min(concurrency, S K)).

    K is the number of members, S is `staleness.max_versions`. A stale update says how far its base was from what the
    device has; where versions in between have gone that way already, the whole of it again overshoots, and a variance
    falls below zero. concurrency/K versions pass under a lease, and a loop with such a delay settles without overshoot
    below about half its inverse.
    """
    if trained < delta.size:
        late = min(policy.selection.concurrency, policy.staleness.max_versions * members)
        delta[trained:] *= members / (members + 2 * late)
    return delta


def step(
    optimizer: Optimizer, model: Floats, *, moments: Floats | None, delta: Doubles, trained: int | None = None
) -> Stepped:
    """One release. The first `trained` elements, or all, are stepped by the optimizer; those behind are averaged.

    Moments have an element for each that is stepped.
    """
    if trained is None or trained == model.size:
        return _step(optimizer, model, moments=moments, delta=delta)
    stepped = _step(optimizer, model[:trained], moments=moments, delta=delta[:trained])
    # The mean of what devices have, whatever the optimizer makes of gradients.
    averaged = (model[trained:] + delta[trained:]).astype(np.float32)
    return Stepped(np.concatenate([stepped.model, averaged]), stepped.moments)


def _step(optimizer: Optimizer, model: Floats, *, moments: Floats | None, delta: Doubles) -> Stepped:
    """Server momentum, and FedAdam, FedAdagrad and FedYogi as in Reddi et al. 2021, algorithm 2: no bias correction."""
    rate = optimizer.learning_rate
    if optimizer.rule == "sgd":
        # In place, because memory that is touched for the first time costs more than the arithmetic.
        moved = rate * delta
        moved += model
        return Stepped(moved.astype(np.float32), None)
    # One rounding a release: what is kept between releases is float32, so that a body holds all of it.
    x = model.astype(np.float64)
    carried = np.zeros(MOMENTS[optimizer.rule] * x.size, np.float32) if moments is None else moments
    if optimizer.rule == "momentum":
        velocity = optimizer.momentum * carried.astype(np.float64) + delta
        return Stepped((x + rate * velocity).astype(np.float32), velocity.astype(np.float32))
    first, second = carried.astype(np.float64).reshape(2, x.size)
    first = optimizer.beta1 * first + (1 - optimizer.beta1) * delta
    second = _accumulate(optimizer, second, square=delta * delta)
    moved = x + rate * (first / (np.sqrt(second) + optimizer.tau))
    return Stepped(moved.astype(np.float32), np.concatenate([first, second]).astype(np.float32))


def _accumulate(optimizer: Optimizer, second: Doubles, *, square: Doubles) -> Doubles:
    """The second moment after a delta with this square."""
    match optimizer.rule:
        case "adagrad":
            return second + square
        case "yogi":
            return second - (1 - optimizer.beta2) * square * np.sign(second - square)
        case _:
            return optimizer.beta2 * second + (1 - optimizer.beta2) * square
