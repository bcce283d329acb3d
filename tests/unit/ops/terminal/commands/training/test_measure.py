"""`fedlog measure` from the question to the answer, and the same beside the evaluator's scores in `task show`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from ops.operator import tasks
from ops.settings import ENVIRONMENT, Settings
from ops.terminal.cli import app
from schemas.events import TaskCreated, VersionEvaluated
from schemas.topics import EVALUATIONS
from tests.learners import FLAT_LEARNER
from tests.survey import DATA, RINGS, Survey
from tests.worlds.builders import scored
from tests.worlds.ops_journal import write_key

Run = Callable[..., Result]


@pytest.fixture
def world(tmp_path: Path) -> Survey:
    """A task with version 1, which the evaluator has scored."""
    world = Survey()
    world.answer(RINGS, tmp_path)
    fact = VersionEvaluated(task=RINGS, version=1, metrics={"sum": 0.125}, samples=9, cohort="")
    world.append(EVALUATIONS.name, scored(fact))
    return world


@pytest.fixture
def run(world: Survey, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs `fedlog` on that log, without the environment's settings."""
    monkeypatch.setattr(Settings, "log", lambda self, client_id="": world.log)
    monkeypatch.chdir(tmp_path)
    write_key(tmp_path / ".fedlog" / "operator.key")
    for variable in ENVIRONMENT:
        monkeypatch.delenv(variable, raising=False)
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


def test_from_a_question_to_its_answer(run: Run, world: Survey, tmp_path: Path) -> None:
    """The command creates the task and names it; its answer is shown with the task, its question and as a list."""
    asked = run("measure", RINGS, "--metrics", "sum", "--bound", "sum=8", "--devices", 2)
    assert asked.exit_code == 0, asked.output
    assert asked.stdout.split() == ["rings.measured-v1"]
    # What it says can be copied: whoever asks knows the code.
    assert f" --allow {FLAT_LEARNER} --allow {DATA}" in asked.stderr.replace("\n", " ")
    world.settle()
    world.answer("rings.measured-v1", tmp_path, devices=2)
    shown = run("task", "show", RINGS).stdout
    held_out, devices = (next(line for line in shown.splitlines() if words in line) for words in ("held", "on devices"))
    assert held_out.split() == ["version", "1", "held", "out", "sum", "0.125"]
    assert "over devices" in devices
    assert "2 devices (rings.measured-v1)" in devices
    assert "examples" in run("task", "show", "rings.measured-v1").stdout
    [measured] = json.loads(run("task", "show", RINGS, "--json").stdout)["measurements"]
    assert (measured["of_version"], measured["devices"], measured["statistics"]["examples"]) == (1, 2, 7.0)
    assert "rings.measured-v1" in run("task", "list").stdout
    assert run("model", "list", "--task", "rings.measured-v1").exit_code == 0
    # The same question again has another name, and does not disturb the first.
    assert run("measure", RINGS, "--metrics", "sum", "--version", 1).stdout.split() == ["rings.measured-v1-2"]


def test_the_answer_is_waited_for(run: Run, world: Survey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one JSON object, with both means of each metric."""
    create = tasks.create

    def create_and_answer(*given: Any, **named: Any) -> TaskCreated:
        created = create(*given, **named)
        world.settle()
        world.answer(created.task, tmp_path)
        return created

    # Devices are quick: by the time that the command looks, they have answered.
    monkeypatch.setattr(tasks, "create", create_and_answer)
    asked = run("measure", RINGS, "--metrics", "sum", "--name", "rings.now", "--wait-s", 60, "--json")
    result = json.loads(asked.stdout)
    assert (result["task"], result["of"], result["of_version"]) == ("rings.now", RINGS, 1)
    assert set(result["scores"]["sum"]) == {"over_devices", "over_examples"}


@pytest.mark.parametrize(
    ("words", "told", "code"),
    [
        (("wings",), "no task 'wings'", 1),
        ((RINGS, "--version", 9, "--metrics", "sum"), "no version 9", 1),
        ((RINGS,), "name them", 1),
        ((RINGS, "--metrics", "sum", "--bound", "sum"), "METRIC=NUMBER", 2),
        ((RINGS, "--metrics", "sum", "--bound", "sum=-1"), "METRIC=NUMBER", 2),
        ((RINGS, "--metrics", "sum", "--rho-max", 1), "both", 2),
        ((RINGS, "--metrics", "sum", "--devices", 99), "updates_per_round = 99", 2),
        ((RINGS, "--metrics", "sum", "--name", "No"), "no name of a task", 2),
        ((RINGS, "--metrics", "sum", "--wait-s", 0.3), "0 of 3 devices have answered", 1),
    ],
)
def test_what_cannot_be_asked_is_named(
    run: Run, world: Survey, words: tuple[object, ...], told: str, code: int
) -> None:
    """On standard error, with the exit code of its kind."""
    done = run("measure", *words)
    world.settle()
    assert told in done.stderr.replace("\n", " ")
    assert (done.stdout, done.exit_code) == ("", code)


def test_a_policy_file_asks_too(run: Run, world: Survey, tmp_path: Path) -> None:
    """`task create` reads a question as it reads any policy, and says what the vector is."""
    (tmp_path / "ages.toml").write_text(AGES)
    created = run("task", "create", tmp_path / "ages.toml", "--name", "rings.ages")
    assert created.stdout.startswith("rings.ages: 5 elements asked for, partition ")
    world.settle()
    world.answer("rings.ages", tmp_path)
    shown = run("task", "show", "rings.ages").stdout
    assert "mean of 3 devices" in shown
    assert "[" in next(line for line in shown.splitlines() if line.startswith("histogram"))


AGES = f"""
kind = "measure"
data = "{DATA}"

[measure]
plugin = "client_agent.learning.measuring.questions:histogram"
plugin_arguments = {{ column = "labels" }}

[measure.statistics]
histogram = {{ bound = 64, shape = [4] }}
examples = {{ bound = 64 }}

[selection]
devices_expected = 10
concurrency = 10
[aggregation]
updates_per_round = 3
[clipping]
norm = 4.0
steps = 1048576
[compression]
codec = "float32"
error_feedback = false
[staleness]
rule = "constant"
[stop]
versions_max = 1
"""
