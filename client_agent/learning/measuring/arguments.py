"""What a policy asks of a question that comes with fedlog, checked before any device is asked.

A device would find each of these faults under a lease, and so would every other device.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from client_agent.learning.measuring import questions
from client_agent.learning.plugins import PluginError, resolve
from schemas.policy import Measure, Statistic


def check_arguments(measure: Measure) -> None:
    """Nothing where devices can answer it, as far as that can be known without data. Raises PluginError."""
    plugin = resolve(measure.plugin)
    problems = [*_find_name_problems(plugin, measure)]
    # A value is looked at where the names are right: each would otherwise be told twice.
    if not problems and (find := _CHECKS.get(plugin)) is not None:
        problems += find(measure, measure.plugin_arguments)
    if problems:
        raise PluginError("\n".join(f"measure: {problem}" for problem in problems))


def _find_name_problems(plugin: Callable[..., Any], measure: Measure) -> Iterator[str]:
    """Whether a plugin, also a user's own, can be called with the policy's arguments."""
    try:
        signature = inspect.signature(plugin)
    # What is written in another language need not say what it takes.
    except (TypeError, ValueError):
        return
    try:
        signature.bind({}, None, context=None, **measure.plugin_arguments)
    except TypeError as error:
        yield f"plugin_arguments: {measure.plugin!r} does not take them ({error})"


def _find_evaluate_problems(measure: Measure, arguments: Mapping[str, Any]) -> Iterator[str]:
    del arguments
    if not measure.of:
        yield "of: evaluate scores a version of a task; name the task"
    yield from _find_shape_problems(measure, dict.fromkeys(measure.statistics, ()))


def _find_histogram_problems(measure: Measure, arguments: Mapping[str, Any]) -> Iterator[str]:
    asked = measure.statistics.get(questions.HISTOGRAM)
    if asked is None or len(asked.shape) != 1:
        yield f"statistics: histogram gives {questions.HISTOGRAM!r} of shape [bins]; ask for it"
    else:
        shapes = {questions.HISTOGRAM: asked.shape, questions.EXAMPLES: ()}
        yield from _find_shape_problems(measure, shapes)
    yield from _find_bin_problems(arguments)


def _find_cohort_problems(measure: Measure, arguments: Mapping[str, Any]) -> Iterator[str]:
    # Whatever else it is called with goes on to where bins are counted.
    for name in arguments.keys() - {"cohorts", "column", "between"}:
        yield f"plugin_arguments: shares_by_cohort takes cohorts, column and between, and no {name!r:.80}"
    cohorts, asked = arguments["cohorts"], measure.statistics.get(questions.HISTOGRAM)
    if not _is_list(cohorts) or not cohorts or not all(isinstance(cohort, str) and cohort for cohort in cohorts):
        yield f"plugin_arguments.cohorts = {cohorts!r:.80}: a list of names"
        return
    if asked is None or len(asked.shape) != 2 or asked.shape[0] != len(cohorts):
        wanted = f"[{len(cohorts)}, bins]"
        yield f"statistics: shares_by_cohort gives {questions.HISTOGRAM!r} of shape {wanted}; ask for it"
    else:
        yield from _find_shape_problems(measure, {questions.HISTOGRAM: asked.shape, questions.DEVICES: (len(cohorts),)})
    yield from _find_bin_problems(arguments)


def _find_bin_problems(arguments: Mapping[str, Any]) -> Iterator[str]:
    column = arguments.get("column", questions.LABELS)
    if not _is_column(column):
        yield f"plugin_arguments.column = {column!r:.80}: a feature's place from 0 on, or a name"
    between = arguments.get("between", ())
    if not _is_range(between):
        yield f"plugin_arguments.between = {between!r:.80}: the lower end and the upper one"


def _find_columns_problems(measure: Measure, arguments: Mapping[str, Any]) -> Iterator[str]:
    columns = arguments.get("columns", ())
    if not _is_list(columns) or not all(map(_is_column, columns)):
        yield f"plugin_arguments.columns = {columns!r:.80}: a list of features' places from 0 on, or of names"
        return
    each = ("count", "sum", "sum_of_squares")
    # Without a list the data decide how many columns there are, but not that it is one number a column.
    shape = (len(columns),) if columns else _find_common_shape(measure, each)
    yield from _find_shape_problems(measure, {**dict.fromkeys(each, shape), questions.EXAMPLES: ()})


def _find_common_shape(measure: Measure, names: Sequence[str]) -> tuple[int, ...]:
    shapes = [measure.statistics[name].shape for name in names if name in measure.statistics]
    return next((shape for shape in shapes if len(shape) == 1), (1,))


def _find_shape_problems(measure: Measure, shapes: Mapping[str, tuple[int, ...]]) -> Iterator[str]:
    """Statistics that the question does not give, or gives in another shape."""
    asked: Mapping[str, Statistic] = measure.statistics
    for name, statistic in asked.items():
        if name not in shapes:
            yield f"statistics.{name:.60}: {measure.plugin!r} does not give it; it gives {', '.join(shapes)}"
        elif statistic.shape != shapes[name]:
            yield f"statistics.{name:.60}.shape = {[*statistic.shape]}: it has {[*shapes[name]]}"


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _is_column(value: Any) -> bool:
    # A truth value is a whole number to Python.
    return isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool) and value >= 0)


def _is_range(value: Any) -> bool:
    if not _is_list(value) or not all(isinstance(end, int | float) for end in value):
        return False
    return len(value) == 0 or (len(value) == 2 and value[0] < value[1])


_CHECKS: dict[Callable[..., Any], Callable[[Measure, Mapping[str, Any]], Iterator[str]]] = {
    questions.evaluate: _find_evaluate_problems,
    questions.histogram: _find_histogram_problems,
    questions.shares_by_cohort: _find_cohort_problems,
    questions.describe_columns: _find_columns_problems,
}
