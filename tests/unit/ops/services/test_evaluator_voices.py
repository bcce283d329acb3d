"""Several evaluators, cohorts, and measurements: each voice is said once, its cohorts first, whatever ends."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client_agent.learning.allow_list import AllowList
from client_agent.learning.data import Part
from client_agent.learning.learner import Arrays
from ops.operator import models
from ops.operator.questions import Question, make_policy
from ops.services.evaluator import Evaluator, Missed
from schemas.canonical import decode
from schemas.certificates import parse_certified
from schemas.events import Noticed, TaskHalted, VersionEvaluated
from schemas.policy import Policy
from schemas.topics import EVALUATIONS
from streams.log import TopicPartition, scan
from streams.memory import MemoryLog
from tests.learners import PAIR_LEARNER, PairLearner
from tests.survey import ALLOWED as SURVEY_ALLOWED
from tests.survey import RINGS, Survey, measuring_policy, training_policy
from tests.worlds.builders import model_published, role_key
from tests.worlds.ops_journal import PLACE, Journal, append, created, memory_log, policy
from tests.worlds.rounds import evaluator_id

FLAT = np.arange(6, dtype=np.float32)
SITES = ("west", "east", "west", "south")


class SitesLearner(PairLearner):
    """Its held-out examples are of three sites, and a score is the mean of their values."""

    sites: tuple[str, ...] = SITES

    def load(self, part: Part) -> Any:
        """Four examples; their site is a column."""
        del part
        return {"value": np.arange(1.0, 5.0), "site": np.array(self.sites)}

    def evaluate(self, parameters: Arrays, data: Any) -> dict[str, float]:
        """The mean of the values that it is given, and the sum of the model."""
        return {"accuracy": float(data["value"].mean()), **super().evaluate(parameters, data)}


LEARNER = f"{__name__}:{SitesLearner.__name__}"
ALLOWED = AllowList(names=frozenset({LEARNER, PAIR_LEARNER, f"{__name__}:fail"}), command="fedlog evaluate")
BY_COHORT = [("east", 2.0, 1), ("south", 4.0, 1), ("west", 2.0, 2), ("", 2.5, 4)]


def fail(example: Any) -> str:
    """A plugin for cohorts that knows no site."""
    raise LookupError(example)


def sites_policy(**evaluation: Any) -> Policy:
    """Scored by site."""
    return policy(learner=LEARNER, evaluation={"cohort": "site", **evaluation})


def published(rules: Policy, versions: int = 1) -> MemoryLog:
    """A task with so many versions."""
    log = memory_log()
    append(log, "tasks", created(policy=rules))
    refs = [models.store(log, FLAT, partition=PLACE) for _ in range(versions)]
    told = [model_published(version, round=None, model=ref) for version, ref in enumerate(refs)]
    Journal(log, "rounds").batch(Noticed(fact=created(policy=rules)), *told)
    return log


def opened(log: Any, serial: int = 0, allowed: AllowList = ALLOWED) -> Any:
    """The evaluator that holds this key."""
    return closing(Evaluator(log, key=role_key("evaluator", serial=serial), allowed=allowed))


def score(log: Any, serial: int = 0, allowed: AllowList = ALLOWED) -> list[VersionEvaluated | Missed]:
    """What a fresh evaluator with this key says."""
    with opened(log, serial, allowed) as evaluator:
        return list(evaluator.step())


def written(log: Any, place: int = PLACE) -> list[VersionEvaluated]:
    """All words in the log, in their order."""
    records = scan(log, TopicPartition(EVALUATIONS.name, place))
    return [decode(parse_certified(record.value or b"").payload, VersionEvaluated) for record in records]


def test_cohorts_are_scored_before_all_together() -> None:
    """Each on its own examples, in the order of their names, in the evaluator's own name; all together come last."""
    log = published(sites_policy())
    said = score(log)
    assert said == written(log)
    told = [(one.cohort, one.metrics["accuracy"], one.samples) for one in written(log)]
    assert told == BY_COHORT
    assert {one.evaluator for one in written(log)} == {evaluator_id()}
    assert score(log) == []


@pytest.mark.parametrize("said", range(5))
def test_an_evaluator_that_was_ended_goes_on_behind_what_it_had_said(
    said: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ended before, between and behind its words: after a restart each stands in the log once."""
    log = published(sites_policy())
    append_one, left = log.append, [said]

    def end(drafts: Any) -> Any:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return append_one(drafts)

    with monkeypatch.context() as patch:
        patch.setattr(log, "append", end)
        if said < len(BY_COHORT):
            with pytest.raises(KeyboardInterrupt):
                score(log)
        else:
            score(log)
    assert len(written(log)) == said
    score(log)
    assert [one.cohort for one in written(log)] == [cohort for cohort, *_ in BY_COHORT]


def test_evaluators_side_by_side_mind_each_other_s_words_not() -> None:
    """Each says all of it once, in its own name, also after a restart; nobody waits for another."""
    log = published(policy(learner=PAIR_LEARNER), versions=2)
    with opened(log, 0) as first, opened(log, 1) as second:
        assert len([*first.step(), *second.step(), *first.step()]) == 4
        second.wait(0.0)
        assert [*second.step()] == []
    assert score(log, 0) == score(log, 1) == []
    assert len(score(log, 2)) == 2
    assert {one.evaluator for one in written(log)} == {evaluator_id(serial) for serial in range(3)}


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        (sites_policy(cohort="place"), "have no such column"),
        (sites_policy(cohort=f"{__name__}:fail"), "of example 0: LookupError: {'value'"),
        (sites_policy(cohort="os:system"), "fedlog evaluate --allow os:system"),
        (policy(learner=PAIR_LEARNER, evaluation={"cohort": "site"}), "have no such column"),
    ],
    ids=["no column", "a plugin that raises", "a plugin that may not run", "no names"],
)
def test_cohorts_that_cannot_be_told_make_a_miss(rules: Policy, told: str) -> None:
    """Nothing is said of the version, and a person reads what to do; other tasks go on."""
    log = published(rules, versions=2)
    missed = score(log)
    assert [type(one) for one in missed] == [Missed, Missed]
    assert told in str(missed[0])
    assert written(log) == []


def test_other_cohorts_than_before_make_a_miss(monkeypatch: pytest.MonkeyPatch) -> None:
    """What changed since the last version is named: two versions would be scored on different data."""
    log, rules = memory_log(), sites_policy()
    append(log, "tasks", created(policy=rules))
    journal, ref = Journal(log, "rounds"), models.store(log, FLAT, partition=PLACE)
    journal.batch(Noticed(fact=created(policy=rules)), model_published(0, round=None, model=ref))
    score(log)
    journal.batch(model_published(1, model=ref))
    monkeypatch.setattr(SitesLearner, "sites", ("west", "north", "west", "west"))
    [missed] = score(log)
    assert "has no 'east', 'south' any more and has 'north', unlike when version 0 was scored" in str(missed)
    assert len(score(log, 1)) == 2 * len(("north", "west", ""))


# --- measurements ---------------------------------------------------------------------------------------------------


def test_a_federated_evaluation_is_a_voice(tmp_path: Path) -> None:
    """What devices found out is said of the version that they measured, once by each evaluator, and names its task."""
    world = Survey()
    world.answer(RINGS, tmp_path, until=1)
    measuring = f"{RINGS}.measured"
    world.ask(measuring, make_policy(world.rules, RINGS, question=Question(version=1, metrics=["sum"])))
    world.ask(f"{RINGS}.counted", measuring_policy(measure={"of": RINGS}))
    score(world.log, allowed=SURVEY_ALLOWED)
    assert [one.source for one in written(world.log, world.partition) if one.source] == []
    world.answer(measuring, tmp_path)
    world.answer(f"{RINGS}.counted", tmp_path)
    [relayed] = score(world.log, allowed=SURVEY_ALLOWED)
    assert isinstance(relayed, VersionEvaluated)
    assert (relayed.task, relayed.version, relayed.cohort) == (RINGS, 1, "")
    assert (relayed.source, relayed.evaluator, relayed.samples) == (measuring, evaluator_id(), 3 * 7)
    assert relayed.metrics["sum"] == pytest.approx(world.result(measuring).scores["sum"]["over_examples"])
    assert score(world.log, allowed=SURVEY_ALLOWED) == []
    assert [one.source for one in score(world.log, 1, SURVEY_ALLOWED) if isinstance(one, VersionEvaluated)][
        -1
    ] == measuring


def test_a_measurement_ends_a_task_only_where_voices_are_counted(tmp_path: Path) -> None:
    """Beside the evaluator it is the second voice of a quorum; elsewhere devices decide nothing."""
    stop = {"versions_max": 9, "target_metric": "sum", "target_value": -1e9}
    cases: list[tuple[dict[str, Any], AllowList, list[str]]] = [
        ({"quorum": 2}, SURVEY_ALLOWED, ["target"]),
        # Without leave to run the learner it says what was measured, and nothing else.
        ({"quorum": 2}, ALLOWED, []),
        ({"quorum": 1}, ALLOWED, ["target"]),
        ({}, ALLOWED, []),
    ]
    for number, (evaluation, allowed, halted) in enumerate(cases):
        world, folder = Survey(training_policy(stop=stop, evaluation=evaluation)), tmp_path / str(number)
        world.answer(RINGS, folder, until=1)
        world.ask(f"{RINGS}.m", make_policy(world.rules, RINGS, question=Question(version=1, metrics=["sum"])))
        world.answer(f"{RINGS}.m", folder)
        said = score(world.log, allowed=allowed)
        assert [one.source for one in said if isinstance(one, VersionEvaluated) and one.source] == [f"{RINGS}.m"]
        world.settle()
        assert [each.reason for each in world.events("rounds", TaskHalted) if each.task == RINGS] == halted
