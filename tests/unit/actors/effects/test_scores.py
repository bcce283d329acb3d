"""A measurement that somebody relays: believed for what stands in the log, and not for who says it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors.deciders.arithmetic.statistics import find_metrics
from ops.operator import models, tasks
from ops.operator.questions import Question, make_policy
from schemas.events import CandidateStaged, InputsDropped, Noticed, VersionEvaluated
from schemas.topics import EVALUATIONS, MODELS, ROLLOUTS
from streams.log import TopicPartition
from tests.survey import RINGS, Survey, training_policy
from tests.worlds.builders import KEY, scored
from tests.worlds.rounds import evaluator_id

MEASURED = f"{RINGS}.measured"


@pytest.fixture
def world(tmp_path: Path) -> Survey:
    """A task with a quorum of two, and what its devices measured of version 1."""
    stop = {"versions_max": 9, "target_metric": "sum", "target_value": 1e6}
    found = Survey(training_policy(stop=stop, evaluation={"quorum": 2}))
    found.answer(RINGS, tmp_path, until=1)
    found.ask(MEASURED, make_policy(found.rules, RINGS, question=Question(version=1, metrics=["sum"])))
    found.answer(MEASURED, tmp_path)
    return found


def relayed(world: Survey, **changes: Any) -> VersionEvaluated:
    """What an honest evaluator says of it."""
    view = tasks.find_view(world.log, MEASURED, operator=KEY.public_key)
    assert view.created is not None
    vector = models.read(world.log, view.published[1].model, parameters=view.created.parameters)
    metrics, samples = find_metrics(vector, view.created, members=view.published[1].members, of=world.rules)
    told = VersionEvaluated(
        task=RINGS, version=1, metrics=metrics, samples=samples, cohort="", evaluator=evaluator_id(), source=MEASURED
    )
    return msgspec.structs.replace(told, **changes)


def noticed(world: Survey, *words: VersionEvaluated) -> tuple[int, int]:
    """How many of these words stand in the aggregator's journal, and how many were junk."""
    for word in words:
        world.append(EVALUATIONS.name, scored(word))
        world.settle()
    facts = [event.fact for event in world.events("rounds", Noticed) if isinstance(event, Noticed)]
    junk = [event for event in world.events("rounds", InputsDropped) if isinstance(event, InputsDropped)]
    return sum(isinstance(fact, VersionEvaluated) for fact in facts), sum(event.count for event in junk)


def test_what_the_measurement_found_is_a_voice(world: Survey) -> None:
    """Guarantee: as it stands in the log, once, however often it is said."""
    assert noticed(world, relayed(world), relayed(world)) == (1, 0)


def test_nobody_tells_a_measurement_wrongly(world: Survey) -> None:
    """Guarantee: one key is no second voice by a measurement that was never made, or that found something else."""
    honest = relayed(world)
    changes: list[dict[str, Any]] = [
        {"metrics": {"sum": 2e6}},
        {"metrics": {**honest.metrics, "loss": 1.0}},
        {"samples": 10**6},
        {"version": 0},
        {"source": RINGS},
        {"source": "nobody"},
        {"cohort": "west"},
    ]
    forged = [msgspec.structs.replace(honest, **change) for change in changes]
    assert noticed(world, *forged) == (0, len(forged))


def test_a_measurement_that_is_gone_is_no_voice(world: Survey) -> None:
    """What cannot be compared is not believed, and stops nobody."""
    honest = relayed(world)
    at = TopicPartition(MODELS.name, world.partition)
    world.log.delete_records(at, world.log.bounds(at).end)
    assert noticed(world, honest) == (0, 1)


def test_a_rollout_hears_a_measurement_once_it_has_been_compared(tmp_path: Path) -> None:
    """Guarantee: by a release that nobody has seen one key makes no quorum of two, and moves no version."""
    rollout = {"stages": [{"share": 0.5, "hold_s": 60.0}], "gates": [{"metric": "sum", "at_least": 0.0}]}
    world = Survey(
        training_policy(stop={"versions_max": 9}, evaluation={"quorum": 2, "metric": "sum"}, rollout=rollout)
    )
    world.answer(RINGS, tmp_path, until=1)
    world.ask(MEASURED, make_policy(world.rules, RINGS, question=Question(version=1, metrics=["sum"])))
    world.answer(MEASURED, tmp_path)
    honest = relayed(world)
    own = msgspec.structs.replace(honest, source=msgspec.UNSET, metrics={"sum": 5.0})
    forged = [{"metrics": {"sum": 7.0}}, {"samples": 10**6}, {"source": RINGS}, {"source": "nobody"}]
    for word in (own, *(msgspec.structs.replace(honest, **change) for change in forged)):
        world.append(EVALUATIONS.name, scored(word))
        world.settle()
    assert not world.events(ROLLOUTS.name, CandidateStaged)
    world.append(EVALUATIONS.name, scored(honest))
    world.settle()
    assert [staged.version for staged in world.events(ROLLOUTS.name, CandidateStaged)] == [1]
