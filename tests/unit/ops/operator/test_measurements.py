"""A measure task measures what its policy says: a copy of one version, which nothing that happens later changes."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actors.deciders.arithmetic import statistics
from client_agent.learning.data import Part
from client_agent.learning.plugins import PluginError
from client_agent.outbox.outbox import read_state
from ops.audit.findings import Findings
from ops.audit.replay import Audit
from ops.operator import models, results, tasks
from ops.operator.errors import MeasurementUnprotected, ModelMismatch, TaskUnknown, VersionUnknown
from ops.operator.questions import Question, choose_name, make_policy
from ops.operator.succession import Predecessor
from ops.services.evaluator import Evaluator
from schemas.events import RoundCharged, SumStored
from schemas.policy import Policy
from schemas.topics import LEDGER, MODELS, ROUNDS
from tests.learners import PERSONAL_LEARNER
from tests.places import home_of
from tests.survey import ALLOWED, DATA, RINGS, Survey, measuring_policy, rows_of_device, training_policy
from tests.worlds.builders import ANCHOR, role_key

PRIVATE = {"noise_multiplier": 1.0, "rho_max": 9.0}
AWAY = next(name for name in map("far{}".format, range(99)) if home_of(name) != home_of(RINGS))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Survey:
    """A task with versions 0 to 2, which tests only add measurements to."""
    world = Survey()
    world.answer(RINGS, tmp_path_factory.mktemp("trained"), until=2)
    return world


_NUMBERS = itertools.count()


@pytest.fixture
def number() -> int:
    """One that no other test has, for names in the world that they share."""
    return next(_NUMBERS)


def _evaluation(world: Survey, version: int = 2, **changes: Any) -> Policy:
    return make_policy(world.rules, RINGS, question=Question(version=version, metrics=["sum"], **changes))


def _vector(world: Survey, version: int) -> Any:
    view = tasks.find_view(world.log, RINGS)
    return models.read(world.log, view.published[version].model, parameters=6)


def test_the_measured_version_is_copied(trained: Survey, number: int) -> None:
    """Into the measure task's own partition, wherever the measured task lives; the vector begins at zero."""
    created = trained.ask(f"{AWAY}.copy-{number}", _evaluation(trained, 1))
    assert created.subject is not None
    assert (created.subject.task, created.subject.version) == (RINGS, 1)
    assert (created.subject.model.topic, created.subject.model.partition) == (MODELS.name, home_of(AWAY))
    copy = models.read(trained.log, created.subject.model, parameters=6)
    np.testing.assert_array_equal(copy, _vector(trained, 1))
    assert models.read(trained.log, created.model, parameters=created.parameters).tolist() == [0.0] * 3


def test_a_question_that_no_device_could_answer_is_not_asked(trained: Survey, number: int) -> None:
    """Its arguments are checked before anything is written: whoever asks is told, and no device finds it out."""
    histogram = "client_agent.learning.measuring.questions:histogram"
    asked = {"plugin": histogram, "statistics": {"histogram": {"bound": 8.0}}}
    name = f"{RINGS}.wrong-{number}"
    with pytest.raises(PluginError, match="of shape"):
        trained.ask(name, measuring_policy(measure=asked))
    with pytest.raises(TaskUnknown):
        tasks.find_view(trained.log, name)


def test_the_newest_version_is_meant_where_none_is_named(trained: Survey, number: int) -> None:
    """As it is when the task is created."""
    rules = measuring_policy(measure={"of": RINGS})
    created = trained.ask(f"{RINGS}.newest-{number}", rules)
    assert created.subject is not None
    assert created.subject.version == tasks.find_view(trained.log, RINGS).version


@pytest.mark.parametrize(
    ("sections", "error", "told"),
    [
        ({"measure": {"of": "wings"}}, TaskUnknown, "no task 'wings'"),
        ({"measure": {"of": RINGS, "version": 99}}, VersionUnknown, "no version 99"),
        ({"measure": {"of": RINGS}, "parameters": {"averaged_scale": 0.5}}, ModelMismatch, "averaged_scale"),
        (
            {
                "measure": {"of": RINGS},
                "learner": "tests.learners:FlatLearner",
                "learner_arguments": {"parameters": 7},
            },
            ModelMismatch,
            "not that of 'rings'",
        ),
    ],
)
def test_what_cannot_be_measured_is_refused(
    trained: Survey, sections: dict[str, Any], error: type[Exception], told: str
) -> None:
    """Before anything of the task is written; the message names what is wrong."""
    before = tasks.find_views(trained.log).keys()
    with pytest.raises(error, match=told):
        trained.ask(f"{RINGS}.refused", measuring_policy(**sections))
    assert tasks.find_views(trained.log).keys() == before


def test_a_measurement_is_not_measured(trained: Survey, number: int) -> None:
    """Its versions are statistics and no models; nor does one start from another's."""
    name = f"{RINGS}.first-{number}"
    trained.ask(name, measuring_policy())
    with pytest.raises(ModelMismatch, match="is a measurement itself"):
        trained.ask(f"{RINGS}.second-{number}", measuring_policy(measure={"of": name}))
    with pytest.raises(ModelMismatch, match="starts from nothing"):
        trained.ask(f"{RINGS}.warm-{number}", measuring_policy(), after=Predecessor(task=name, warm_start=True))


def test_a_private_task_is_measured_with_privacy(tmp_path: Path) -> None:
    """What its noise protects must not be published by asking; with noise the round is charged, and its cap holds."""
    world = Survey(training_policy(privacy=PRIVATE, stop={"versions_max": 9}))
    world.answer(RINGS, tmp_path)
    with pytest.raises(MeasurementUnprotected, match=r"\[privacy\]"):
        world.ask("rings.bare", _evaluation(world, 1))
    rules = _evaluation(world, 1, privacy=world.rules.privacy)
    created = world.ask("rings.noisy", rules)
    world.answer("rings.noisy", tmp_path)
    [charge] = [event for event in world.events(LEDGER.name, RoundCharged) if event.task == "rings.noisy"]
    assert (charge.mechanism.sigma, charge.rho_total) == (rules.sigma, 0.5)
    assert created.participations_cap == 18
    view = tasks.find_view(world.log, "rings.noisy")
    assert view.participations_max == 1
    # Noise of a few tenths of the bound on each: three honest devices have 2, 3 and 4 examples.
    assert world.result("rings.noisy").statistics["examples"] != 3.0
    assert _audited(world).differences == []


def test_a_personal_head_answers_as_its_device_has_it(tmp_path: Path) -> None:
    """Guarantee: a device that has trained the measured task answers with its own arrays, and keeps them unchanged."""
    world = Survey(training_policy(learner=PERSONAL_LEARNER))
    world.answer(RINGS, tmp_path, until=1)
    for question, states in (("stranger", 0), ("known", 3)):
        name = f"{RINGS}.{question}"
        places = [(tmp_path / f"{RINGS}-{index}", tmp_path / f"{name}-{index}") for index in range(3)]
        # Both tasks of a real device are in one folder.
        for trained_in, place in places if states else ():
            shutil.copytree(trained_in, place)
        world.ask(name, _evaluation(world, 1))
        world.answer(name, tmp_path)
        expected = 3.0 if states else 0.0
        assert float(world.result(name).statistics["sum"]) == expected
        kept = [read_state(place, RINGS) for _, place in places]
        assert kept == ([read_state(before, RINGS) for before, _ in places] if states else [None] * 3)


def test_a_full_replay_recomputes_statistics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the bodies and this round alone; a version whose statistics are others is named."""
    world = Survey(measuring_policy(stop={"versions_max": 2}), task="ages")
    world.answer("ages", tmp_path, until=2)
    findings = _audited(world)
    assert (findings.differences, findings.models, findings.unchecked) == ([], 2, [])
    assert len(world.events(ROUNDS.name, SumStored)) == 2
    # As if each had been published a little smaller than the bodies say.
    exact = statistics.release
    monkeypatch.setattr(
        statistics, "release", lambda *given, members: exact(*given, members=members) * np.float32(1.01)
    )
    told = [f"version {version}: the round gives another model" for version in (1, 2)]
    found = [str(difference) for difference in _audited(world).differences]
    assert [any(line in difference for difference in found) for line in told] == [True, True]


def test_two_measurements_do_not_add_up(tmp_path: Path) -> None:
    """Version 2 of a question is what the devices say then, and not what they said before and then."""
    world = Survey(measuring_policy(stop={"versions_max": 2}), task="ages")
    world.answer("ages", tmp_path, until=2)
    view = tasks.find_view(world.log, "ages")
    first, second = (results.read(world.log, view, version=version) for version in (1, 2))
    assert [float(one.statistics["examples"]) for one in (first, second)] == [3.0, 3.0]
    told = np.mean([rows_of_device(_part(index))[0][:, 0].sum() for index in range(3)])
    assert abs(float(second.statistics["first"][0, 0]) - told) < 1e-4


def test_the_evaluator_has_nothing_to_score(trained: Survey, tmp_path: Path) -> None:
    """A measurement is a score itself: no version of it is scored, and none is reported as missed."""
    name = f"{RINGS}.quiet"
    trained.ask(name, measuring_policy())
    trained.answer(name, tmp_path)
    evaluator = Evaluator(trained.log, key=role_key("evaluator"), task=name, allowed=ALLOWED)
    assert list(evaluator.step()) == []
    evaluator.close()


def test_a_name_stays_in_the_population() -> None:
    """Free, and a name of a task whatever the length of the measured one."""
    assert choose_name("rings", 15, taken=()) == "rings.measured-v15"
    assert choose_name("rings", 15, taken={"rings.measured-v15"}) == "rings.measured-v15-2"
    assert choose_name("wards.first", 0, taken=()) == "wards.first-measured-v0"
    longest = choose_name(f"wards.{'a' * 63}", 7, taken=())
    tasks.check_name(longest)
    assert longest.endswith("-measured-v7")


def _audited(world: Survey) -> Findings:
    return Audit(world.log, world.partition, anchor=ANCHOR, full=True, to=None).run()


def _part(index: int) -> Part:
    return Part(index=index, plugin=DATA)
