"""The list of tasks says of each what the tables and the console say."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ops.history.projections import TaskViews
from ops.history.task_view import TaskView
from ops.web.page.moment import Moment
from ops.web.page.questions.courses import forecast_end, trace_course
from ops.web.page.questions.overview import list_tasks
from ops.web.page.questions.position import list_stops
from ops.web.reading import OwnHistory
from streams.log import TopicPartition, scan
from tests.gallery import DONE, MAIN, paint
from tests.tables import synced, tell
from tests.worlds.builders import DEPLOYMENT, KEY


def _fold(log: object, partition: int) -> dict[str, TaskView]:
    """The console's view of every task."""
    views = TaskViews(operator=KEY.public_key, deployment=DEPLOYMENT)
    for topic in views.topics:
        for record in scan(log, TopicPartition(topic, partition)):  # type: ignore[arg-type]
            views.apply(record)
    return views.tasks


@pytest.fixture(scope="module", params=["story", "gallery"])
def both(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Moment, dict[str, TaskView]]]:
    """A moment of a history, and the same folded by the console."""
    world = tell() if request.param == "story" else paint()
    with synced(tmp_path_factory.mktemp("history") / "history.duckdb", world.log) as history:
        yield Moment(OwnHistory(history), history.position, world.now_ms), _fold(world.log, world.partition)


def test_each_line_is_what_the_console_shows(both: tuple[Moment, dict[str, TaskView]]) -> None:
    """Status, version, metric, buffer and budget of the page are those of `fedlog task show`."""
    moment, views = both
    lines = list_tasks(moment)
    assert {line.task for line in lines} == {name for name, view in views.items() if view.created is not None}
    for line in lines:
        view = views[line.task]
        assert (line.status, line.version) == (view.status, view.version)
        assert line.size == view.buffer_size
        assert line.metric == view.metric_name
        assert (line.scores[-1][1] if line.scores else None) == view.metric
        if not line.is_over:
            assert line.filled == view.buffer_fill
        if line.budget is not None:
            assert line.budget.rho == pytest.approx(view.rho, abs=0)
            assert (line.budget.epsilon, line.budget.delta) == (view.epsilon, view.delta)
        # A lease that ran out is closed a little later; until then the console still counts it.
        open_leases = [lease for lease in view.leases.values() if lease.deadline_ms >= moment.until_ms]
        assert line.at_work == len(open_leases)


def test_the_course_of_a_task_is_that_of_its_evaluations(both: tuple[Moment, dict[str, TaskView]]) -> None:
    """Every point of a curve is the score of that version."""
    moment, views = both
    for task, view in views.items():
        scores = trace_course(moment, task).scores
        told = {
            (name, version): value for version, one in view.evaluations.items() for name, value in one.metrics.items()
        }
        # Cohorts are scored apart, and the console keeps the last that came.
        for name, points in scores.items():
            assert {version for version, _ in points} <= {version for _, version in told}
            assert all(isinstance(value, float) for _, value in points), name


def test_the_end_of_a_budget_is_foreseen(tmp_path_factory: pytest.TempPathFactory) -> None:
    """At the pace of the last rounds the gauge names a version beyond the newest, and none for a task without one."""
    with synced(tmp_path_factory.mktemp("history") / "history.duckdb", paint().log) as history:
        moment = Moment(OwnHistory(history), history.position, paint().now_ms)
        lines = {line.task: line for line in list_tasks(moment)}
        main = lines[MAIN]
        assert main.budget is not None
        end = forecast_end(moment, MAIN, budget=main.budget, version=main.version)
        assert end is not None
        assert end > (main.version or 0)
        assert lines[DONE].budget is None


def test_the_stops_of_a_slider_are_in_order(both: tuple[Moment, dict[str, TaskView]]) -> None:
    """Time goes forward from stop to stop, each version has its own, and the last one is now."""
    moment, views = both
    for task, view in views.items():
        stops = list_stops(moment, task)
        times = [stop.time_ms for stop in stops]
        assert times == sorted(times)
        assert times[-1] == moment.until_ms
        assert {stop.version for stop in stops if stop.version is not None} <= {*view.published}
