"""Questions that come with fedlog: how well a version does on the devices' data, and what these data are like.

Each gives only those statistics that the policy names, so that a policy asks for no more than it wants to know.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from client_agent.learning.foreign import LearnerError
from client_agent.learning.learner import Arrays, Context
from client_agent.learning.opening import count_examples
from schemas.policy import Statistic

EXAMPLES = "examples"
TIMES_EXAMPLES = "_times_examples"
HISTOGRAM = "histogram"
DEVICES = "devices"
LABELS = "labels"

Column = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


def evaluate(parameters: Arrays, data: Any, *, context: Context) -> dict[str, Any]:
    """The metrics of the measured version on the device's data, by the policy's learner.

    Statistics: `examples`, their number; `M` for a metric M; `M_times_examples`. The mean of M over devices says how
    well a device is served, and the sum of M_times_examples over that of examples how well an example is.
    """
    if context.learner is None or not parameters:
        raise LearnerError(
            "evaluate scores a version of a task with its learner: name `of` in [measure], and its model"
        )
    asked = _find_statistics(context)
    metrics = {str(name): float(value) for name, value in dict(context.learner.evaluate(parameters, data)).items()}
    # Of one that no statistic asks for nothing is known, and nothing is sent.
    if unknown := [name for name, value in metrics.items() if math.isnan(value) and name in asked]:
        raise LearnerError(
            f"{', '.join(unknown)}: not defined on this device's {count_examples(data)} examples, such as auroc where "
            "all are of one class; this device does not answer"
        )
    # Cut together with its products, or a device with many examples would shift the mean over them.
    examples = (
        min(float(count_examples(data)), asked[EXAMPLES].bound) if EXAMPLES in asked else float(count_examples(data))
    )
    found: dict[str, Any] = {EXAMPLES: examples}
    for name, value in metrics.items():
        bound = asked[name].bound if name in asked else np.inf
        found[name] = min(max(value, -bound), bound)
        found[name + TIMES_EXAMPLES] = found[name] * examples
    return _choose(found, asked)


def histogram(
    parameters: Arrays, data: Any, *, context: Context, column: int | str = LABELS, between: tuple[float, ...] = ()
) -> dict[str, Any]:
    """How many examples have a value in each bin. Statistics: `histogram`, of shape [bins], and `examples`.

    `column` is a feature's place, the name of an array, or "labels". The bins divide the range `between` evenly, and
    what is outside falls into the first or last; without it bin b is the whole number b, as for classes.
    """
    del parameters
    asked = _find_statistics(context)
    if HISTOGRAM not in asked or len(asked[HISTOGRAM].shape) != 1:
        raise LearnerError(f"histogram gives a statistic {HISTOGRAM!r} of shape [bins]: ask for it")
    counts = _count_bins(data, bins=asked[HISTOGRAM].shape[0], column=column, between=between)
    return _choose({HISTOGRAM: counts, EXAMPLES: counts.sum()}, asked)


def shares_by_cohort(
    parameters: Arrays, data: Any, *, context: Context, cohorts: tuple[str, ...], **column_and_between: Any
) -> dict[str, Any]:
    """Which share of its examples a device has in each bin, in the row of its own cohort, and zeros in the others.

    Statistics: `histogram`, of shape [cohorts, bins], and `devices`, of shape [cohorts]: 1 in the place of a device
    that has examples. So each device counts once, whatever their number. The rest as in `histogram`; a device of a
    cohort that is not named answers with zeros.
    """
    del parameters
    asked = _find_statistics(context)
    if HISTOGRAM not in asked or len(asked[HISTOGRAM].shape) != 2 or asked[HISTOGRAM].shape[0] != len(cohorts):
        raise LearnerError(f"shares_by_cohort gives a statistic {HISTOGRAM!r} of shape [cohorts, bins]: ask for it")
    shares, devices = np.zeros(asked[HISTOGRAM].shape), np.zeros(len(cohorts))
    counts = _count_bins(data, bins=shares.shape[1], **column_and_between)
    if context.cohort in cohorts and counts.any():
        row = cohorts.index(context.cohort)
        shares[row], devices[row] = counts / counts.sum(), 1
    return _choose({HISTOGRAM: shares, DEVICES: devices}, asked)


def _count_bins(data: Any, *, bins: int, column: int | str = LABELS, between: tuple[float, ...] = ()) -> Counts:
    if between and not (len(between) == 2 and between[0] < between[1]):
        raise LearnerError(f"histogram: between = {list(between)}, expected the lower end and the upper one")
    values = _take_columns(data, (column,))[:, 0]
    # What is missing is in no bin.
    values = values[~np.isnan(values)]
    low, high = between or (0.0, float(bins))
    # Through the bins and not their edges, so that a whole number is never a rounding away from its own bin.
    places = np.clip(np.floor((values - low) * (bins / (high - low))), 0, bins - 1).astype(np.int64)
    return np.bincount(places, minlength=bins)


def describe_columns(
    parameters: Arrays, data: Any, *, context: Context, columns: tuple[int | str, ...] = ()
) -> dict[str, Any]:
    """`count`, `sum` and `sum_of_squares` of each column, of shape [columns]; means and variances follow from sums.

    `columns` as in `histogram`; without them all features, in their order. NaN is a value that is missing.
    """
    del parameters
    values = _take_columns(data, tuple(columns))
    present = ~np.isnan(values)
    filled = np.where(present, values, 0.0)
    found = {
        "count": present.sum(axis=0),
        "sum": filled.sum(axis=0),
        "sum_of_squares": (filled * filled).sum(axis=0),
        EXAMPLES: len(values),
    }
    return _choose(found, _find_statistics(context))


def _find_statistics(context: Context) -> Mapping[str, Statistic]:
    return context.policy.measure.statistics if context.policy.measure else {}


def _choose(found: Mapping[str, Any], asked: Mapping[str, Statistic]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if name in asked}


def _take_columns(data: Any, columns: tuple[int | str, ...]) -> Column:
    """Columns of the data side by side, shape (examples, columns); all features where none is named."""
    if isinstance(data, Mapping):
        named = {str(name): np.asarray(array, np.float64) for name, array in data.items()}
        features = np.zeros((0, 0))
    else:
        arrays = [np.asarray(array, np.float64) for array in (data if isinstance(data, tuple) else (data,))]
        named = {LABELS: arrays[-1]} if len(arrays) > 1 else {}
        features = arrays[0].reshape(len(arrays[0]), -1)
    # Labels are what a policy would have to ask for by name.
    if not columns:
        columns = tuple(range(features.shape[1])) or tuple(name for name in named if name != LABELS)
    return np.stack([_take_column(named, features, column=column) for column in columns], axis=1)


def _take_column(named: Mapping[str, Column], features: Column, *, column: int | str) -> Column:
    if isinstance(column, str) and column in named and named[column].ndim == 1:
        return named[column]
    if isinstance(column, int) and 0 <= column < features.shape[1]:
        return features[:, column]
    has = [*(name for name, array in named.items() if array.ndim == 1), f"0 to {features.shape[1] - 1}"]
    raise LearnerError(f"the data have no column {column!r}; they have {', '.join(has[:8])}")
