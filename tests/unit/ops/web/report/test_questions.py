"""A report says what the journals say, and of a private task what anybody may know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ops.history.tables.answers import Answer, QueryRefused
from ops.history.tables.duckdb_file import HistoryFile
from ops.web.report.page import render
from ops.web.report.questions import collect
from ops.web.report.verdict import NOT_RUN
from schemas.events import RoundCharged, TaskHalted, UpdateAdmitted, UpdateRefused
from schemas.topics import LEDGER, ROUNDS
from streams.journals import read_decisions
from streams.log import TopicPartition
from tests.tables import OPERATOR, READER, opened, synced, tell
from tests.worlds.builders import policy
from tests.worlds.federation import Federation


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HistoryFile]:
    """The operator's history of the story."""
    with synced(tmp_path_factory.mktemp("history") / "history.duckdb", tell().log, OPERATOR) as found:
        yield found


def _list_tasks(history: HistoryFile) -> list[str]:
    return [task for (task,) in history.ask("SELECT task FROM tasks ORDER BY task").rows]


def test_every_number_is_that_of_the_journals(history: HistoryFile) -> None:
    """What was spent, who took part and what was refused, as a reader of the journals counts it without any table."""
    story = tell()
    charges: dict[str, list[RoundCharged]] = {}
    devices: dict[str, set[str]] = {}
    incidents: Counter[tuple[str, str, str]] = Counter()
    for topic in (ROUNDS, LEDGER):
        for _, decision, _ in read_decisions(story.log, TopicPartition(topic.name, story.partition), trust=None):
            for event in decision.events:
                match event:
                    case RoundCharged():
                        charges.setdefault(event.task, []).append(event)
                    case UpdateAdmitted():
                        devices.setdefault(event.task, set()).add(event.device)
                    case UpdateRefused():
                        incidents[event.task, "update refused", event.reason] += 1
                    case TaskHalted():
                        incidents[event.task, "task halted", event.reason] += 1
    for task in _list_tasks(history):
        told = collect(history.ask, task)
        mine = charges.get(task, [])
        assert told.spent.charges == len(mine)
        assert told.spent.rho == max((each.rho_total for each in mine), default=0.0)
        assert told.spent.participations == max((each.participations_max for each in mine), default=0)
        assert told.sizes.total in (None, len(devices.get(task, ())))
        found = {(one.what, one.reason): one.count for one in told.incidents}
        expected = {(what, reason.replace("_", " ")): n for (of, what, reason), n in incidents.items() if of == task}
        assert expected.items() <= found.items()
    assert charges
    assert incidents


def test_an_operator_makes_the_report_of_anybody(history: HistoryFile, tmp_path: Path) -> None:
    """Word for word the page that somebody without the operator's key makes, and each question is asked as theirs."""
    hidden: list[bool] = []

    def ask(sql: str, **asked: Any) -> Answer:
        hidden.append(asked["hides"])
        return history.ask(sql, **asked)

    with synced(tmp_path / "history.duckdb", tell().log, READER) as theirs:
        private = history.ask("SELECT task FROM tasks WHERE private ORDER BY task").rows
        for task in ("digits", *(task for (task,) in private)):
            assert render(collect(ask, task), NOT_RUN) == render(collect(theirs.ask, task), NOT_RUN)
    assert private
    assert all(hidden)


def test_defects_are_not_told_where_a_private_task_may_have_them(history: HistoryFile, tmp_path: Path) -> None:
    """Which inputs fail depends on what devices send; a task that lives beside a private one is silent too."""
    assert history.ask("SELECT sum(defects) FROM workers").rows[0][0] > 0
    assert collect(history.ask, "digits").workers["defects"] is None
    plain = Federation(policy(), parameters=4)
    plain.settle()
    with synced(tmp_path / "plain.duckdb", plain.log) as alone:
        assert collect(alone.ask, "digits").workers["defects"] == 0


def test_the_parts_of_a_report_are_of_one_moment(tmp_path: Path) -> None:
    """What is stored while it is made is in none of them."""
    from ops.history.tables.syncing import sync

    plain = Federation(policy(), parameters=4)
    plain.settle()
    with opened(tmp_path / "history.duckdb") as history:
        sync(plain.log, history, viewer=OPERATOR)
        moments: list[str | None] = []

        def ask(sql: str, **asked: Any) -> Answer:
            moments.append(asked["as_of"])
            return history.ask(sql, **asked)

        collect(ask, "digits")
        assert moments[0] is None
        assert {*moments[1:]} == {str(history.position)}


def test_a_task_that_is_not_there_is_said(history: HistoryFile) -> None:
    """Whatever is typed, it is a name and never a part of a question."""
    for task in ("nobodys", "digits' OR 1 = 1 --", ""):
        with pytest.raises(QueryRefused, match="No task"):
            collect(history.ask, task)
