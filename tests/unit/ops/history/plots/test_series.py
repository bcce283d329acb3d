"""The numbers of a picture are those of the journals."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from statistics import median

import pytest

from ops.history.plots.series import Series, average, read_lives, read_series
from ops.history.tables.answers import QueryRefused
from schemas.events import ModelPublished, RoundOpened, UpdateAdmitted, UpdateRefused, VersionEvaluated
from schemas.topics import EVALUATIONS, ROUNDS, TASKS
from streams.journals import read_decisions
from streams.log import TopicPartition
from tests.tables import synced, tell
from tests.worlds.builders import lease_id, model_published, update_admitted
from tests.worlds.ops_journal import TASK, Journal, append, created, memory_log


def test_series_are_what_the_journal_says(tmp_path: Path) -> None:
    """Guarantee: uploads, staleness and participation are those that a reader of the journal counts without a table."""
    story = tell()
    uploads: Counter[str] = Counter()
    stale: dict[tuple[str, int], list[int]] = {}
    admitted: dict[str, Counter[str]] = {}
    at_release: dict[tuple[str, int], int] = {}
    released: dict[str, list[int]] = {}
    for _, decision, _ in read_decisions(story.log, TopicPartition(ROUNDS.name, story.partition), trust=None):
        for event in decision.events:
            match event:
                case UpdateAdmitted():
                    uploads[event.task] += 1
                    stale.setdefault((event.task, event.round), []).append(event.staleness)
                    admitted.setdefault(event.task, Counter())[event.device] += 1
                case UpdateRefused():
                    uploads[event.task] += 1
                case ModelPublished(round=int(round_id)):
                    at_release[event.task, event.version] = uploads[event.task]
                    released.setdefault(event.task, []).append(round_id)
    seen = 0
    with synced(tmp_path / "history.duckdb", story.log) as history:
        for task, rounds in released.items():
            found = read_series(history.ask, task)
            of_all = [each for (owner, _), some in stale.items() if owner == task for each in some]
            assert found.staleness_mean == pytest.approx(sum(of_all) / len(of_all))
            assert found.staleness_p50 == [median(stale[task, round_id]) for round_id in rounds]
            counted = sorted(admitted[task].values(), reverse=True)
            assert [count for count in found.admitted if count] == counted
            for version, count in zip(found.versions, found.uploads, strict=True):
                # Several decisions of one batch have one append time.
                assert version == 0 or count >= at_release[task, version]
                seen += version > 0
            assert list(found.uploads) == sorted(found.uploads)
            assert all(count <= uploads[task] for count in found.uploads)
    assert seen


def test_an_upload_that_was_refused_counts(tmp_path: Path) -> None:
    """Guarantee: along uploads stands what devices have sent, also what came too late to count."""
    log = memory_log()
    append(log, TASKS.name, created())
    refused = UpdateRefused(task=TASK, update=lease_id("c"), device="c", reason="stale", deadline_ms=0)
    some = [update_admitted(name, task=TASK) for name in "ab"]
    Journal(log, ROUNDS.name).batch(RoundOpened(task=TASK, round=0), *some, refused, model_published(1, task=TASK))
    scored = VersionEvaluated(task=TASK, version=1, metrics={"accuracy": 0.5}, samples=9, cohort="")
    append(log, EVALUATIONS.name, scored)
    with synced(tmp_path / "history.duckdb", log) as history:
        found = read_series(history.ask, TASK)
    assert (found.versions, found.uploads, found.admitted) == ([1], [3], [])


def test_an_unknown_task_or_metric_is_named(tmp_path: Path) -> None:
    """Guarantee: nothing is drawn for a name that is not there, and the message has the names that are."""
    with synced(tmp_path / "history.duckdb", tell().log) as history:
        with pytest.raises(QueryRefused, match="No task 'nobody'"):
            read_series(history.ask, "nobody")
        [(task,), *_] = history.ask("SELECT task FROM versions WHERE metrics IS NOT NULL").rows
        known = read_series(history.ask, task).metric
        with pytest.raises(QueryRefused, match=f"'f1', but by: .*{known}"):
            read_series(history.ask, task, metric="f1")


def test_lives_have_every_task_once(tmp_path: Path) -> None:
    """Guarantee: each task of the log is in the picture of ancestry, and each branch hangs on two of them."""
    with synced(tmp_path / "history.duckdb", tell().log) as history:
        lives, branches = read_lives(history.ask)
        names = [life.task for life in lives]
        assert sorted(names) == sorted(name for (name,) in history.ask("SELECT task FROM tasks").rows)
        assert all(life.began <= life.ended for life in lives)
        assert all({branch.task, branch.parent} <= {*names} for branch in branches)


def test_a_mean_is_of_the_versions_that_all_have() -> None:
    """Guarantee: a run that ended earlier, or was not scored once, does not make the mean one of the others."""

    def run(versions: list[int], values: list[float]) -> Series:
        return Series(
            "a", "accuracy", versions, [v * 10 for v in versions], [0.0] * len(versions), values, [], [], [], []
        )

    mean = average("a", [run([0, 1, 2, 3], [0.0, 0.2, 0.4, 0.9]), run([0, 2], [0.2, 0.6]), run([0, 2], [0.7, 0.2])])
    assert (mean.versions, mean.uploads) == ([0, 2], [0, 20])
    assert mean.values == pytest.approx([0.3, 0.4])
