"""What a task's page asks in milliseconds is what the tables that people ask say, which take longer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.web.page.moment import Moment
from ops.web.page.questions import running
from ops.web.reading import OwnHistory
from tests.gallery import DONE, MAIN, STILL, paint
from tests.tables import synced

TASKS = (MAIN, DONE, STILL)


@pytest.fixture(scope="module")
def now(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moment]:
    """The gallery as it stands at its end."""
    path: Path = tmp_path_factory.mktemp("history") / "history.duckdb"
    with synced(path, paint().log) as history:
        yield Moment(OwnHistory(history), history.position, paint().now_ms)


@pytest.fixture(scope="module", params=["now", "as of version 9"])
def moment(request: pytest.FixtureRequest, now: Moment) -> Moment:
    """Now, and earlier: it is the same question with another moment."""
    return now if request.param == "now" else Moment(now.reader, now.position, now.until_ms, at=f"{MAIN}@9")


@pytest.mark.parametrize("task", TASKS)
def test_the_buffer_is_that_of_the_tables(moment: Moment, task: str) -> None:
    """The members of the newest round, and how long each took, are those of `updates`."""
    found = running.find_round(moment, task)
    assert found is not None
    told = moment.ask(
        "SELECT device, staleness, weight, cohort, granted_at, submitted_at FROM updates "
        "WHERE task = $task AND round_id = $round AND outcome = 'admitted' ORDER BY decided_at, \"offset\"",
        task=task,
        round=found.number,
    )
    shown = sorted((row["device"], row["staleness"], row["weight"], row["cohort"]) for row in found.members)
    assert shown == sorted((row["device"], row["staleness"], row["weight"], row["cohort"]) for row in told)
    [row] = moment.ask("SELECT max(round_id) AS newest FROM rounds WHERE task = $task", task=task)
    assert found.number == row["newest"]


@pytest.mark.parametrize("task", TASKS)
def test_staleness_and_cohorts_are_those_of_the_tables(moment: Moment, task: str) -> None:
    """The histogram counts every admitted update once, and each device is in the cohort that `devices` names."""
    told = moment.ask(
        "SELECT staleness, count(*) AS updates FROM updates WHERE task = $task AND outcome = 'admitted' GROUP BY ALL",
        task=task,
    )
    counted = {staleness: count for staleness, count in running.count_staleness(moment, task) if count}
    assert counted == {row["staleness"]: row["updates"] for row in told}
    by_cohort = moment.ask(
        "SELECT cohort, count(*) AS devices, sum(admitted)::BIGINT AS admitted, sum(leases)::BIGINT AS leases "
        "FROM devices WHERE task = $task GROUP BY cohort",
        task=task,
    )
    named = {row["cohort"]: row for row in by_cohort}
    assert {row["cohort"]: row for row in running.list_cohorts(moment, task)} == named


def test_losses_are_those_of_the_tables(moment: Moment) -> None:
    """What was declined, refused or ran out is counted as `checkins`, `updates` and `leases` count it."""
    losses = {(loss.how, loss.reason): loss.count for loss in running.list_losses(moment, MAIN)}
    for row in moment.ask("FROM checkins WHERE task = $task AND reason <> 'granted'", task=MAIN):
        assert losses.pop(("check-in declined", row["reason"])) == row["count"]
    expired = moment.ask_one("SELECT count(*) AS n FROM leases WHERE task = $task AND outcome = 'expired'", task=MAIN)
    assert losses.pop(("lease expired", ""), 0) == expired["n"]
    assert {how for how, _ in losses} <= {"not decided", "refused", "counted as zero"}


def test_a_round_by_its_number_has_its_end(now: Moment) -> None:
    """A round that became a version tells when it was proposed, charged and published, in that order."""
    found = running.find_round(now, MAIN, number=4)
    assert found is not None
    assert [name for name, _ in found.steps] == ["proposed", "charged", "published"]
    assert not found.is_filling
    assert len(found.members) == 20
    assert running.find_round(now, "nobody's") is None
