"""The release of a question: from the exact sum of a round to named statistics, in their own units, and to scores.

A device sends each element as a share of its bound (`client_agent.learning.measuring`), so that one norm and one grid
serve statistics of any size. Elementwise float64, rounded once (law 6), and from this round's sum alone: no version
depends on the one before.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from actors.deciders.arithmetic.optimizers import Doubles
from schemas.events import TaskCreated
from schemas.policy import WEIGHT_ONE, Measure, Policy, name_judged_metric
from schemas.policy.learning import METRICS
from schemas.tensors import Floats, Grid

# The names that `client_agent.learning.measuring.questions:evaluate` gives its statistics.
EXAMPLES, TIMES_EXAMPLES = "examples", "_times_examples"


def release(total: Grid, policy: Policy, *, members: int) -> Floats:
    """The sum over the devices or their mean, float32 of shape (parameters,), in the order of the policy."""
    assert policy.measure is not None
    # The grid first, then the number of devices, then the bounds: another order rounds differently.
    shares = np.multiply(total, policy.clipping.step / WEIGHT_ONE, dtype=np.float64)
    if policy.measure.release == "mean":
        shares /= members
    shares *= spread_bounds(policy.measure)
    return shares.astype(np.float32)


def spread_bounds(measure: Measure) -> Doubles:
    """The bound of each element of the vector, shape (parameters,)."""
    statistics = measure.statistics.values()
    sizes = [int(np.prod(statistic.shape, dtype=np.int64)) for statistic in statistics]
    return np.repeat(np.array([statistic.bound for statistic in statistics], np.float64), sizes)


def split(vector: Floats, created: TaskCreated) -> dict[str, Floats]:
    """The statistics of a release by name, each in its shape."""
    found, at = {}, 0
    for spec in created.tensors:
        found[spec.name] = vector[at : at + spec.size].reshape(spec.shape)
        at += spec.size
    return found


def find_scores(statistics: Mapping[str, Floats], *, devices: int) -> dict[str, dict[str, float]]:
    """Each metric of a federated evaluation: over the devices, and over all examples where these were counted."""
    examples = float(statistics[EXAMPLES]) if EXAMPLES in statistics and statistics[EXAMPLES].ndim == 0 else 0.0
    found: dict[str, dict[str, float]] = {}
    for name, array in statistics.items():
        weighted = statistics.get(name + TIMES_EXAMPLES)
        if weighted is None:
            continue
        found[name] = {"over_devices": float(array) / devices}
        # With noise the count can be anything, and a quotient by less than one example says nothing.
        if examples >= 1:
            found[name]["over_examples"] = float(weighted) / examples
    return found


def find_metrics(vector: Floats, created: TaskCreated, *, members: int, of: Policy) -> tuple[dict[str, float], int]:
    """What a release of `members` answers says of the task with the policy `of`, and on how many examples.

    A metric is over all examples where these were counted, as evaluators score, else the mean over devices. None where
    no statistic is called as a metric of that task.
    """
    assert created.policy.measure is not None
    statistics, is_sum = split(vector, created), created.policy.measure.release == "sum"
    devices = members if is_sum else 1
    scores = find_scores(statistics, devices=devices)
    found = {name: means.get("over_examples", means["over_devices"]) for name, means in sorted(scores.items())}
    named = {name_judged_metric(of), *of.evaluation.metrics, *METRICS} - found.keys()
    alone = {name: statistics[name] for name in sorted(named & statistics.keys())}
    found |= {name: float(array) / devices for name, array in alone.items() if array.ndim == 0}
    counted, samples = statistics.get(EXAMPLES), float(members)
    # Where nobody has counted examples, devices count; with noise a count can be anything.
    if counted is not None and counted.ndim == 0:
        samples = float(counted) * (1 if is_sum else members)
    return {name: value for name, value in found.items() if math.isfinite(value)}, max(0, round(samples))
