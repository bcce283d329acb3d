"""What a policy that asks the fleet a question must and must not say; called by `checks`."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from msgspec import UNSET

from schemas.identifiers import TASK_PATTERN
from schemas.policy.learning import Measure, Schedule
from schemas.policy.sections import Optimizer, Policy

BOUND_MIN, BOUND_MAX = 1e-9, 1e15
STATISTICS_MAX = 4096
ELEMENTS_MAX = 1 << 24
NAME_MAX = 512
DIMENSIONS_MAX = 32
NEWEST = -1


def find_measure_problems(policy: Policy) -> Iterator[str]:
    """Each contradiction of a kind of task and its table [measure], one line for each."""
    if (policy.kind == "measure") != (policy.measure is not None):
        has = "has no table [measure]" if policy.measure is None else "has a table [measure]"
        yield f"kind = {policy.kind!r}: {has}; a task measures or trains"
        return
    if policy.measure is not None:
        yield from _find_subject_problems(policy.measure)
        yield from _find_statistics_problems(policy.measure)
        yield from _find_path_problems(policy)
        for field in ("quorum", "disagreement_max", "metric", "drop_max"):
            if getattr(policy.evaluation, field) is not UNSET:
                yield f"evaluation.{field}: nobody scores a measurement; leave it out"


def _find_subject_problems(measure: Measure) -> Iterator[str]:
    if ":" not in measure.plugin:
        yield f"measure.plugin = {measure.plugin!r}: must be 'module:callable'"
    if measure.of and not re.fullmatch(TASK_PATTERN, measure.of):
        yield f"measure.of = {measure.of!r}: is no name of a task"
    if measure.version != NEWEST and not measure.of:
        yield f"measure.version = {measure.version}: of which task? measure.of names it"


def _find_statistics_problems(measure: Measure) -> Iterator[str]:
    if not 0 < len(measure.statistics) <= STATISTICS_MAX:
        yield f"measure.statistics: {len(measure.statistics)} of them; from 1 to {STATISTICS_MAX} can be asked for"
    for name, statistic in measure.statistics.items():
        where = f"measure.statistics.{name[:60]}"
        if not 0 < len(name) <= NAME_MAX:
            yield f"{where}: a name has from 1 to {NAME_MAX} letters"
        # In this form of the comparison NaN fails too.
        if not BOUND_MIN <= statistic.bound <= BOUND_MAX:
            yield f"{where}.bound = {statistic.bound}: must be from {BOUND_MIN:g} to {BOUND_MAX:g}"
        if len(statistic.shape) > DIMENSIONS_MAX or any(length < 1 for length in statistic.shape):
            yield f"{where}.shape = {list(statistic.shape)}: must be whole numbers of at least 1"
    elements = sum(math.prod(statistic.shape) for statistic in measure.statistics.values())
    if elements > ELEMENTS_MAX:
        yield f"measure.statistics: {elements} elements in all; at most {ELEMENTS_MAX}"


def _find_path_problems(policy: Policy) -> Iterator[str]:
    """What makes sense of a step of a model, and none of an answer that stands for itself."""
    if policy.optimizer != Optimizer():
        yield "optimizer: a measurement steps no model; leave the table [optimizer] out"
    if policy.server_schedule != Schedule():
        yield "server_schedule: a measurement steps no model; leave the table [server_schedule] out"
    if policy.compression.error_feedback:
        yield (
            "compression.error_feedback = true: what one answer lost must not come back in the next; write "
            "error_feedback = false"
        )
    if policy.compression.codec == "topk":
        yield "compression.codec = 'topk': leaves statistics out; take 'float32', or an integer codec to save bytes"
    if policy.staleness.rule != "constant":
        yield f"staleness.rule = {policy.staleness.rule!r}: a measurement does not age; take 'constant'"
    if policy.aggregation.normalisation != "count" or policy.aggregation.samples_max:
        yield (
            "aggregation: every device counts alike in a measurement; leave normalisation = 'count' and "
            "samples_max = 0, and ask for a statistic of the examples instead"
        )
    if policy.evaluation.report:
        yield "evaluation.report: an answer has no metrics beside it; make them statistics"
    if policy.stop.target_metric:
        yield "stop.target_metric: nobody scores a measurement"
