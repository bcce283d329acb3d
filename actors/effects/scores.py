"""What evaluators say, as the aggregator believes it: their signature, their name, and what they tell of measurements.

What evaluators measure themselves nobody else can check. A measurement stands in the log: who relays it cannot change
it, and so gains no voice by it.
"""

from __future__ import annotations

import math

import structlog
from msgspec import UNSET

from actors.deciders.aggregator_state import Rounds
from actors.deciders.arithmetic.statistics import find_metrics
from actors.effects.aggregator.bodies import BodyLost
from actors.effects.aggregator.summation import Fetch
from schemas.canonical import TASK_BYTES_MAX
from schemas.certificates import Trust, read_evaluation
from schemas.events import VersionEvaluated
from schemas.tensors import BodyError, unpack
from streams.log import Record

logger = structlog.get_logger()

FIRST_RELEASE = 1


def read_score(state: Rounds, record: Record, *, trust: Trust, fetch: Fetch) -> VersionEvaluated | None:
    """What a certified evaluator says in its own name; None for any other, and for a measurement that it tells wrongly.

    Raises MalformedError.
    """
    data = record.value or b""
    # What is noticed has to fit into one journal record, beside the position.
    said = read_evaluation(data, trust, at_ms=record.time_ms) if len(data) <= TASK_BYTES_MAX else None
    task = None if said is None else state.tasks.get(said.task)
    # Elsewhere a measurement decides nothing, and need not be looked up.
    if said is None or said.source is UNSET or task is None or task.standing is UNSET:
        return said
    return said if _is_relayed_rightly(state, said, fetch=fetch) else None


def _is_relayed_rightly(state: Rounds, evaluated: VersionEvaluated, *, fetch: Fetch) -> bool:
    """Whether its metrics are those of the measure task's first release, about this version of this task."""
    source, task = state.tasks.get(evaluated.source or ""), state.tasks.get(evaluated.task)
    subject = source.created.subject if source is not None else None
    if source is None or subject is None or task is None or FIRST_RELEASE not in source.published:
        return False
    if (subject.task, subject.version) != (evaluated.task, evaluated.version) or evaluated.cohort:
        return False
    released = source.published[FIRST_RELEASE]
    try:
        vector = unpack(fetch(released.model), released.model.codec, count=source.created.parameters)
    except (BodyLost, BodyError) as error:
        logger.warning("measurement_unreadable", task=evaluated.source, reason=str(error))
        return False
    metrics, samples = find_metrics(vector, source.created, members=released.members, of=task.created.policy)
    if samples != evaluated.samples or metrics.keys() != evaluated.metrics.keys():
        return False
    # Another release may round otherwise where it divides.
    return all(math.isclose(value, evaluated.metrics[name], rel_tol=1e-9) for name, value in metrics.items())
