"""Service levels: what the table says of a story is what its events say, and the metrics are the same figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.history.levels import ASK, FIGURES, ServiceLevels
from ops.history.tables.answers import Answer
from ops.history.tables.catalogue import load_tables
from schemas.events import VersionEvaluated
from schemas.topics import EVALUATIONS, TASKS
from tests.tables import synced, tell
from tests.worlds.ops_journal import TASK, append, created, memory_log

FILE = "history.duckdb"


def test_levels_are_of_the_newest_rounds(tmp_path: Path) -> None:
    """Each task has a row, with the durations, rates and the budget that other tables give for the same rounds."""
    with synced(tmp_path / FILE, tell().log) as history:
        levels = {row[0]: dict(zip(history.ask(ASK).columns, row, strict=True)) for row in history.ask(ASK).rows}
        assert set(levels) == {task for (task,) in history.ask("SELECT task FROM tasks").rows}
        for task, found in levels.items():
            rounds = history.ask(
                "SELECT duration_s FROM rounds WHERE task = $task AND duration_s IS NOT NULL "
                "ORDER BY round_id DESC LIMIT 20",
                parameters={"task": task},
            ).rows
            assert found["rounds"] == len(rounds)
            if not rounds:
                continue
            durations = sorted(seconds for (seconds,) in rounds)
            assert durations[0] <= found["round_duration_p50_s"] <= found["round_duration_p95_s"] <= durations[-1]
            assert found["version_at"] is not None
        spent = dict(history.ask("SELECT task, max(rho_total) FROM ledger GROUP BY 1").rows)
        budgets = dict(history.ask("SELECT task, rho_max FROM policies WHERE rho_max IS NOT NULL").rows)
    assert budgets
    for task, rho_max in budgets.items():
        assert levels[task]["privacy_budget_consumed"] == pytest.approx((spent.get(task) or 0.0) / rho_max)
    assert {found["privacy_budget_consumed"] for task, found in levels.items() if task not in budgets} == {None}


def test_every_figure_is_a_metric_and_none_is_left() -> None:
    """A column that is a number or a time is watched; one that has gone from the table would be shown for ever."""
    columns = [*load_tables()["service_levels"].columns]
    assert [column for column in columns if column not in ("task", "rounds")] == [*FIGURES]


def test_what_is_null_is_no_sample() -> None:
    """A task without privacy has no budget, and a round that ended is open no longer."""
    levels = ServiceLevels()
    find = levels.instruments.registry.get_sample_value

    def show(value: float | None) -> None:
        row = ["t", *(value for _ in FIGURES)]
        levels.show(Answer(["task", *FIGURES], ["VARCHAR"] * len(row), [tuple(row)], 0))

    show(0.5)
    assert find("fedlog_sli_round_opened_seconds", {"task": "t"}) == 0.5
    show(None)
    show(None)
    assert find("fedlog_sli_round_opened_seconds", {"task": "t"}) is None


def test_a_model_that_got_worse_shows(tmp_path: Path) -> None:
    """The newest scored version is compared with the best before it, and not with the one just before."""
    log = memory_log()
    append(log, TASKS.name, created())
    for version, accuracy in enumerate((0.8, 0.9, 0.86, 0.85)):
        fact = VersionEvaluated(task=TASK, version=version, metrics={"accuracy": accuracy}, samples=10, cohort="")
        append(log, EVALUATIONS.name, fact)
    with synced(tmp_path / FILE, log) as history:
        [(accuracy, delta)] = history.ask("SELECT model_accuracy, model_accuracy_delta FROM service_levels").rows
    assert (accuracy, delta) == (0.85, pytest.approx(-0.05))
