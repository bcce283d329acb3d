"""What measure tasks have released is in the tables, value by value, and nothing finer than what was released."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ops.audit.export import select_topics, write_export
from ops.history import releases
from ops.history.releases import store_statistics
from ops.history.tables.duckdb_file import HistoryFile
from ops.history.tables.syncing import sync
from ops.operator import tasks
from ops.operator.questions import Question, make_policy
from schemas.topics import MODELS
from streams.exported import ExportedLog
from streams.log import EventLog, TopicPartition
from tests.survey import RINGS, Survey, measuring_policy
from tests.tables import OPERATOR, READER, opened, synced
from tests.worlds.builders import KEY

AGES = "ages"
VALUES = "SELECT version, statistic, index, value FROM statistics WHERE task = $task ORDER BY ALL"
FILE = "history.duckdb"


def ask(history: HistoryFile, task: str = AGES) -> list[tuple[Any, ...]]:
    """Every value that the history has of a task."""
    return history.ask(VALUES, parameters={"task": task}).rows


def list_released(world: Survey, task: str) -> list[tuple[Any, ...]]:
    """The same of its newest version as operators read it."""
    result = world.result(task)
    named = sorted(result.statistics.items())
    return [
        (result.version, name, place, float(value))
        for name, array in named
        for place, value in enumerate(array.reshape(-1))
    ]


def measured(folder: Path, **sections: Any) -> Survey:
    """A question about data alone, and its answer."""
    world = Survey(measuring_policy(**sections), task=AGES)
    world.answer(AGES, folder)
    return world


@contextmanager
def answered(folder: Path, log: EventLog) -> Iterator[list[tuple[Any, ...]]]:
    """What a new history of a log has."""
    with synced(folder / FILE, log) as history:
        yield ask(history)


def test_each_value_of_a_release_has_a_row(tmp_path: Path) -> None:
    """As operators read them, of whatever shape; version 0, which nobody has answered, has none."""
    asked = {"examples": {"bound": 64.0}, "first": {"bound": 64.0, "shape": (3, 1)}}
    world = measured(tmp_path, measure={"plugin_arguments": {"rows": 3}, "statistics": asked})
    with answered(tmp_path, world.log) as rows:
        assert rows == list_released(world, AGES)
        assert [row[:3] for row in rows] == [(1, "examples", 0), *((1, "first", place) for place in range(3))]
        assert len({row[3] for row in rows}) == 4


def test_the_scores_of_a_version_are_asked_beside_what_was_measured(tmp_path: Path) -> None:
    """A task that is trained has none, and its measurement one for each metric, once it is there."""
    world = Survey()
    world.answer(RINGS, tmp_path)
    with opened(tmp_path / FILE) as history:
        sync(world.log, history, viewer=OPERATOR)
        name = f"{RINGS}.m"
        world.ask(name, make_policy(world.rules, RINGS, question=Question(version=1, metrics=["sum"])))
        world.answer(name, tmp_path)
        assert ask(history, name) == []
        sync(world.log, history, viewer=OPERATOR)
        assert ask(history, name) == list_released(world, name)
        assert ask(history, RINGS) == []


def test_of_a_private_task_only_what_was_published_is_there(tmp_path: Path) -> None:
    """For the operator and for readers alike: values with noise, and never the exact sum, which the log has too."""
    world = measured(tmp_path, privacy={"noise_multiplier": 1.0, "rho_max": 9.0})
    rows = list_released(world, AGES)
    for name, viewer in (("operator", OPERATOR), ("reader", READER)):
        with synced(tmp_path / name, world.log, viewer) as history:
            assert ask(history) == rows
    # Nine examples are what three devices have: two, three and four.
    assert rows[0][3] != pytest.approx(3.0, abs=1e-9)


def test_values_that_are_gone_are_asked_for_once(tmp_path: Path) -> None:
    """What retention has taken, or an export has not got, has no row, and is not looked for again."""
    world = measured(tmp_path)
    view = tasks.find_view(world.log, AGES)
    topics = select_topics(bodies=False, inputs=False)
    write_export(world.log, [world.partition], topics=topics, folder=tmp_path / "exported", key=KEY)
    with answered(tmp_path, ExportedLog(tmp_path / "exported")) as rows:
        assert rows == []
    world.log.delete_records(TopicPartition(MODELS.name, world.partition), view.published[1].model.offsets[0] + 1)
    with synced(tmp_path / "late", world.log) as history:
        assert ask(history) == []
        assert history.ask("SELECT count(*) FROM facts.statistic_released").rows == [(2,)]
        assert store_statistics(world.log, history) == 0


def test_a_kill_between_a_release_and_its_values_loses_nothing(tmp_path: Path) -> None:
    """What is missing is found again by the tables themselves, and stored once."""
    world = measured(tmp_path)
    with opened(tmp_path / FILE) as history, pytest.MonkeyPatch.context() as patched:
        patched.setattr(releases, "FACTS", {})
        with pytest.raises(KeyError):
            sync(world.log, history, viewer=OPERATOR)
    with opened(tmp_path / FILE) as history:
        assert ask(history) == []
        sync(world.log, history, viewer=OPERATOR)
        assert ask(history) == list_released(world, AGES)
        assert store_statistics(world.log, history) == 0


def test_a_release_as_large_as_a_model_has_no_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its digest stands in `measurements`; a row for each element would be the whole history."""
    world = measured(tmp_path)
    monkeypatch.setattr(releases, "ELEMENTS_MAX", 1)
    with answered(tmp_path, world.log) as rows:
        assert rows == []


def test_they_are_no_events(tmp_path: Path) -> None:
    """The table of all events has what stands in the log as a record, and nothing else."""
    world = measured(tmp_path)
    with synced(tmp_path / FILE, world.log) as history:
        assert history.ask("SELECT count(*) FROM events WHERE event = 'StatisticReleased'").rows == [(0,)]
        assert history.ask("SELECT count(*) FROM facts.statistic_released").rows == [(2,)]
