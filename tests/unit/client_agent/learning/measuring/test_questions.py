"""The questions that come with fedlog: what they count, and that they say no more than they are asked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from client_agent.learning.allow_list import AllowList
from client_agent.learning.foreign import LearnerError
from client_agent.learning.learner import Context
from client_agent.learning.measuring.questions import describe_columns, evaluate, histogram
from tests.survey import measuring_policy

FEATURES = np.array([[1.0, -2.0], [3.0, np.nan], [0.5, 4.0]])
LABELS = np.array([0, 3, 3])
DATA = (FEATURES, LABELS)
NAMED = {"age": np.array([20.0, 47.0, 33.0]), "labels": LABELS}


def _ask(**statistics: Any) -> Context:
    asked = {name: {"bound": bound, "shape": shape} for name, (bound, shape) in statistics.items()}
    return Context(version=0, seed=1, policy=measuring_policy(measure={"statistics": asked}))


def _plain(found: dict[str, Any]) -> dict[str, Any]:
    return {name: np.asarray(value).tolist() for name, value in found.items()}


class _Scoring:
    def __init__(self, **metrics: float) -> None:
        self.metrics = metrics

    def evaluate(self, parameters: Any, data: Any) -> dict[str, float]:
        assert list(parameters) == ["w"]
        return {**self.metrics, "count": float(len(data))}


def _evaluate(context: Context, data: Any, **metrics: float) -> dict[str, Any]:
    scoring: Any = _Scoring(**metrics)
    held = Context(version=0, seed=1, policy=context.policy, learner=scoring)
    return _plain(evaluate({"w": np.zeros(2)}, data, context=held))


def test_a_version_is_scored_on_each_device() -> None:
    """The metric, the number of examples, and their product: both means follow; what is not asked for is left out."""
    asked = _ask(examples=(64.0, ()), accuracy=(1.0, ()), accuracy_times_examples=(64.0, ()))
    found = _evaluate(asked, [0] * 8, accuracy=0.75, loss=3.0)
    assert found == {"examples": 8.0, "accuracy": 0.75, "accuracy_times_examples": 6.0}


def test_a_cut_count_and_a_cut_metric_cut_their_product() -> None:
    """Or the mean over examples would be that of nobody."""
    asked = _ask(examples=(4.0, ()), loss=(16.0, ()), loss_times_examples=(64.0, ()))
    assert _evaluate(asked, [0] * 8, loss=100.0) == {"examples": 4.0, "loss": 16.0, "loss_times_examples": 64.0}


def test_a_score_that_is_not_defined_is_no_answer() -> None:
    """Of one class auroc says nothing: such a device is passed over with a reason, and never answers NaN."""
    asked = _ask(examples=(64.0, ()), auroc=(1.0, ()), auroc_times_examples=(64.0, ()))
    with pytest.raises(LearnerError, match="auroc: not defined on this device's 8 examples, such as auroc where all"):
        _evaluate(asked, [0] * 8, auroc=float("nan"))
    # What nobody asks for may be anything.
    assert _evaluate(_ask(examples=(64.0, ())), [0] * 8, auroc=float("nan")) == {"examples": 8.0}


def test_a_score_needs_a_version_and_a_learner() -> None:
    """The message says what the policy is to name."""
    with pytest.raises(LearnerError, match="name `of`"):
        evaluate({}, [0], context=_ask(examples=(4.0, ())))


def test_labels_are_counted_by_class() -> None:
    """Without a range a bin is a whole number; what lies beyond falls into the last."""
    context = _ask(histogram=(64.0, (3,)), examples=(64.0, ()))
    assert _plain(histogram({}, DATA, context=context)) == {"histogram": [1, 0, 2], "examples": 3}


def test_a_feature_is_counted_by_range() -> None:
    """A bin holds its lower end, a missing value is in none, and names serve as well as places."""
    context = _ask(histogram=(64.0, (2,)))
    assert _plain(histogram({}, DATA, context=context, column=1, between=(-4.0, 4.0))) == {"histogram": [1, 1]}
    assert _plain(histogram({}, NAMED, context=context, column="age", between=(0.0, 80.0))) == {"histogram": [2, 1]}


def test_a_histogram_needs_its_bins() -> None:
    """Their number is the statistic's shape."""
    with pytest.raises(LearnerError, match="shape"):
        histogram({}, DATA, context=_ask(examples=(64.0, ())))


@pytest.mark.parametrize("between", [(1.0,), (1.0, 1.0), (2.0, 1.0), (0.0, 1.0, 2.0)])
def test_a_range_has_two_ends(between: tuple[float, ...]) -> None:
    """The lower one first."""
    with pytest.raises(LearnerError, match="the lower end"):
        histogram({}, DATA, context=_ask(histogram=(64.0, (2,))), between=between)


@pytest.mark.parametrize("column", [2, -1, "age", "label"])
def test_a_column_that_is_not_there_is_named(column: int | str) -> None:
    """With those that are."""
    with pytest.raises(LearnerError, match="labels, 0 to 1"):
        histogram({}, DATA, context=_ask(histogram=(64.0, (2,))), column=column)


def test_columns_are_described_by_their_sums() -> None:
    """Count, sum and sum of squares of what is present, column by column; the features, or those that are named."""
    context = _ask(count=(64.0, (2,)), sum=(64.0, (2,)), sum_of_squares=(64.0, (2,)))
    assert _plain(describe_columns({}, DATA, context=context)) == {
        "count": [3, 2],
        "sum": [4.5, 2.0],
        "sum_of_squares": [10.25, 20.0],
    }
    one = _ask(sum=(64.0, (1,)), examples=(64.0, ()))
    assert _plain(describe_columns({}, NAMED, context=one)) == {"sum": [100.0], "examples": 3}
    assert _plain(describe_columns({}, NAMED, context=one, columns=("labels",))) == {"sum": [6.0], "examples": 3}


def test_devices_answer_without_anybodys_leave() -> None:
    """They run nothing that the policy names beyond what has to be allowed itself."""
    for name in ("evaluate", "histogram", "describe_columns"):
        AllowList().check_policy(
            measuring_policy(
                data="client_agent.learning.examples:digits",
                measure={"plugin": f"client_agent.learning.measuring.questions:{name}"},
            )
        )
