"""Questions that no device could answer are refused where they are asked."""

from __future__ import annotations

from typing import Any

import pytest

from client_agent.learning.measuring.arguments import check_arguments
from client_agent.learning.plugins import PluginError
from schemas.policy import Measure
from tests.survey import RINGS, measuring_policy

QUESTIONS = "client_agent.learning.measuring.questions"
ONE, THREE = {"bound": 8.0, "shape": ()}, {"bound": 8.0, "shape": (3,)}


def own_question(parameters: Any, data: Any, *, context: Any, column: int) -> dict[str, Any]:
    """A user's own."""
    raise AssertionError("it is not called at creation")


def _measure(plugin: str, statistics: dict[str, Any], *, of: str = "", **arguments: Any) -> Measure:
    plugin = plugin if ":" in plugin else f"{QUESTIONS}:{plugin}"
    asked = {"plugin": plugin, "statistics": statistics, "of": of, "plugin_arguments": arguments}
    measure = measuring_policy(measure=asked).measure
    assert measure is not None
    return measure


GOOD: dict[str, Measure] = {
    "scores": _measure("evaluate", {"examples": ONE, "auroc": ONE, "auroc_times_examples": ONE}, of=RINGS),
    "labels": _measure("histogram", {"histogram": THREE, "examples": ONE}),
    "ages": _measure("histogram", {"histogram": THREE}, column="age", between=[0, 90.5]),
    "all columns": _measure("describe_columns", {"count": THREE, "sum": THREE, "examples": ONE}),
    "some columns": _measure("describe_columns", {"sum_of_squares": THREE}, columns=[0, "age", 2]),
    "one's own": _measure(f"{__name__}:own_question", {"anything": THREE}, column=-7),
}
BAD: dict[str, tuple[Measure, str]] = {
    "of no task": (_measure("evaluate", {"accuracy": ONE}), "name the task"),
    "scores by column": (_measure("evaluate", {"accuracy": ONE}, of=RINGS, column=1), "does not take them"),
    "scores of a shape": (_measure("evaluate", {"accuracy": THREE}, of=RINGS), r"shape = \[3\]: it has \[\]"),
    "no bins": (_measure("histogram", {"histogram": ONE}), "ask for it"),
    "no histogram": (_measure("histogram", {"examples": ONE}), "ask for it"),
    "a name too many": (_measure("histogram", {"histogram": THREE, "count": ONE}), "statistics.count.*does not give"),
    "a place below": (_measure("histogram", {"histogram": THREE}, column=-1), "column = -1"),
    "a truth value": (_measure("histogram", {"histogram": THREE}, column=True), "column = True"),
    "upside down": (_measure("histogram", {"histogram": THREE}, between=[3, 1]), "between"),
    "one end": (_measure("histogram", {"histogram": THREE}, between=[3]), "between"),
    "a word": (_measure("histogram", {"histogram": THREE}, between="01"), "between"),
    "misspelt": (_measure("histogram", {"histogram": THREE}, colum=1), "does not take them.*colum"),
    "no list": (_measure("describe_columns", {"sum": THREE}, columns="age"), "columns = 'age'"),
    "another number": (_measure("describe_columns", {"sum": THREE}, columns=[1]), r"sum.shape = \[3\]: it has \[1\]"),
    "two numbers": (_measure("describe_columns", {"sum": THREE, "count": ONE}), r"count.shape = \[\]: it has \[3\]"),
    "one's own without": (_measure(f"{__name__}:own_question", {"anything": ONE}), "missing.*column"),
}


@pytest.mark.parametrize("name", GOOD)
def test_what_devices_can_answer_is_taken(name: str) -> None:
    """No question that devices answer is refused by what checks it."""
    check_arguments(GOOD[name])


@pytest.mark.parametrize("name", BAD)
def test_what_no_device_could_answer_is_refused(name: str) -> None:
    """Each fault names its field, as one of a built-in model does, and no lease is spent on finding it."""
    measure, named = BAD[name]
    with pytest.raises(PluginError, match=named):
        check_arguments(measure)
