"""What people read of a measurement: named statistics, and the two means of each metric."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from actors.deciders.arithmetic import statistics
from ops.operator import models, results, tasks
from ops.operator.model_files import read_files
from ops.operator.questions import Question, make_policy
from schemas.topics import MODELS
from streams.log import TopicPartition
from tests.survey import RINGS, Survey, measuring_policy


def _scalar(value: float) -> np.ndarray:
    return np.array(value, np.float32)


def test_a_metric_has_a_mean_over_devices_and_one_over_examples() -> None:
    """Of a mean release and of a sum release; a statistic without its product is no metric."""
    mean = {"examples": _scalar(4), "loss": _scalar(0.5), "loss_times_examples": _scalar(1), "age": _scalar(40)}
    assert statistics.find_scores(mean, devices=1) == {"loss": {"over_devices": 0.5, "over_examples": 0.25}}
    total = {name: array * 3 for name, array in mean.items()}
    assert statistics.find_scores(total, devices=3) == {"loss": {"over_devices": 0.5, "over_examples": 0.25}}


@pytest.mark.parametrize("examples", [0.0, -3.0, 0.5])
def test_noise_does_not_divide(examples: float) -> None:
    """A count that noise has made nothing gives no mean over examples."""
    noisy = {"examples": _scalar(examples), "loss": _scalar(0.5), "loss_times_examples": _scalar(1)}
    assert statistics.find_scores(noisy, devices=1) == {"loss": {"over_devices": 0.5}}


def test_measurements_stand_in_the_order_of_the_versions(tmp_path: Path) -> None:
    """Those of this task alone, and once they have an answer; each with the version that it measured."""
    world = Survey()
    world.answer(RINGS, tmp_path, until=2)
    for version in (2, 1):
        rules = make_policy(world.rules, RINGS, question=Question(version=version, metrics=["sum"]))
        world.ask(f"{RINGS}.v{version}", rules)
        world.answer(f"{RINGS}.v{version}", tmp_path)
    world.ask(f"{RINGS}.open", measuring_policy(measure={"of": RINGS}))
    world.ask(f"{RINGS}.other", measuring_policy())
    views = tasks.find_views(world.log)
    found = results.list_measurements(world.log, views.values(), of=RINGS)
    assert [(one.task, one.of_version, one.members) for one in found] == [("rings.v1", 1, 3), ("rings.v2", 2, 3)]
    # Each device of this learner has seven examples, and one score for a version.
    for one in found:
        assert float(one.statistics["examples"]) == 7.0
        measured = models.read(world.log, views[RINGS].published[one.of_version or 0].model, parameters=6)
        assert one.scores["sum"]["over_devices"] == pytest.approx(float(measured.sum()), abs=1e-3)
        assert one.scores["sum"]["over_devices"] == pytest.approx(one.scores["sum"]["over_examples"], abs=1e-2)
    assert results.read_newest(world.log, views[RINGS]) is None
    assert results.read_newest(world.log, views[f"{RINGS}.open"]) is None


def test_an_export_says_what_it_is(tmp_path: Path) -> None:
    """Named statistics by offset, the kind, and what was measured."""
    world = Survey()
    world.answer(RINGS, tmp_path)
    world.ask(f"{RINGS}.m", measuring_policy(measure={"of": RINGS, "version": 1}))
    world.answer(f"{RINGS}.m", tmp_path)
    files = read_files(world.log, tasks.find_view(world.log, f"{RINGS}.m"), version=1)
    text = files["config.json"].decode()
    assert '"kind": "measure"' in text
    assert '"measured": {\n    "task": "rings",\n    "version": 1\n  }' in text
    assert '"name": "examples"' in text
    assert files["privacy.log"].startswith(b"# rings.m, version 1: measured without differential privacy")
    assert np.frombuffer(files["weights.bin"], "<f4")[0] == 3.0


def test_what_retention_has_taken_is_left_out(tmp_path: Path) -> None:
    """The page of a task goes on without it."""
    world = Survey(measuring_policy(), task="ages")
    world.answer("ages", tmp_path)
    view = tasks.find_view(world.log, "ages")
    assert results.read_newest(world.log, view) is not None
    place = TopicPartition(MODELS.name, world.partition)
    world.log.delete_records(place, view.published[1].model.offsets[0] + 1)
    assert results.read_newest(world.log, tasks.find_view(world.log, "ages")) is None
