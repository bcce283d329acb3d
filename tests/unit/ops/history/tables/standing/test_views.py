"""A task out of the tables is the task that the log folds to, in all that anybody is shown."""

from __future__ import annotations

import heapq
import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from ops.history.following import Follower
from ops.history.projections import TaskViews
from ops.history.tables.projector import Projector
from ops.history.tables.standing.views import read_views
from ops.operator.tasks import summarize
from schemas.events import LeaseClosed, Noticed, RoundOpened, VersionEvaluated
from schemas.policy.metrics import Fidelity, MetricSums
from schemas.topics import EVALUATIONS, ROUNDS, SELECTIONS, TASKS
from streams.log import EventLog, TopicPartition, scan
from tests.tables import OPERATOR, READER, opened, synced, tell
from tests.worlds.builders import (
    KEY,
    batch,
    decision,
    lease_granted,
    model_published,
    policy,
    round_proposed,
    scored,
    update_admitted,
)
from tests.worlds.ops_journal import TASK, Journal, append, created, memory_log
from tests.worlds.rounds import evaluator_id

MOMENTS = 13  # records from one to the next
FILE = "history.duckdb"


def _fold(log: EventLog) -> TaskViews:
    views = TaskViews(operator=KEY.public_key)
    with Follower(log, views) as follower:
        follower.catch_up()
    return views


def test_every_task_of_the_story_is_as_the_log_folds_it(tmp_path: Path) -> None:
    """With privacy and without, running, paused, and over for every reason; each number, and how it is called."""
    folded = _fold(tell().log).tasks
    with synced(tmp_path / FILE, tell().log) as history:
        known = read_views(history.ask)
    assert known is not None
    assert known.tasks.keys() == folded.keys()
    for name, view in folded.items():
        found = known.tasks[name]
        assert summarize(found) == summarize(view), name
        assert (found.created, found.halted, found.round) == (view.created, view.halted, view.round)
        assert (found.metric_name, found.metric, found.is_over) == (view.metric_name, view.metric, view.is_over)
    assert len({view.status for view in folded.values()}) > 4
    assert any(view.zeroed for view in folded.values())


@pytest.mark.parametrize("task", ["digits", "private-0"])
def test_all_versions_are_there_when_they_are_asked_for(tmp_path: Path, task: str) -> None:
    """Each with its score and makeup, also alone; else the newest alone, and with `scored` the whole curve."""
    folded = _fold(tell().log).tasks[task]
    with synced(tmp_path / FILE, tell().log) as history:
        every, scored, newest = (read_views(history.ask, task, versions=v) for v in ("all", "scored", "newest"))
        alone = read_views(history.ask, task, versions="only")
    assert every is not None
    assert alone is not None
    assert scored is not None
    assert newest is not None
    [view] = every.tasks.values()
    for name in ("created", "published", "published_ms", "evaluations", "makeups"):
        assert getattr(view, name) == getattr(alone.tasks[task], name) == getattr(folded, name)
    assert len(view.published) > 2
    assert scored.tasks[task].curve() == folded.curve()
    assert [*newest.tasks[task].published] == [folded.version] == [*scored.tasks[task].published]


def test_whoever_has_two_devices_takes_part_as_one(tmp_path: Path) -> None:
    """Participations of enrolled devices are their subject's, in the tables as in the fold."""
    log = memory_log()
    append(log, TASKS.name, created())
    said = [update_admitted(name, task=TASK, update=f"{number:032x}") for number, name in enumerate("abca")]
    Journal(log, ROUNDS.name).batch(*(replace(each, subject="5" * 32) for each in said[1:]), said[0])
    with synced(tmp_path / FILE, log) as history:
        known = read_views(history.ask)
    assert known is not None
    assert known.tasks[TASK].participations_max == _fold(log).tasks[TASK].participations_max == 3


def test_a_lease_that_is_closed_twice_is_one(tmp_path: Path) -> None:
    """An update that is decided after its lease ran out closes it again: no more leases are over than were granted."""
    log = memory_log()
    append(log, TASKS.name, created())
    granted = [lease_granted(name, task=TASK, cohort="") for name in "ab"]
    closed = LeaseClosed(task=TASK, lease=granted[0].lease, device=granted[0].device, outcome="expired", round=None)
    Journal(log, SELECTIONS.name).batch(*granted, closed, replace(closed, outcome="used", round=0))
    folded = _fold(log).tasks[TASK]
    with synced(tmp_path / FILE, log) as history:
        known = read_views(history.ask)
    assert known is not None
    assert known.tasks[TASK].leases_in_flight == folded.leases_in_flight == 1


def test_what_a_version_is_made_of_is_as_the_log_folds_it(tmp_path: Path) -> None:
    """Clipped by server and device, zeroed, told and untold losses, weights; and what devices report."""
    log = memory_log()
    append(log, TASKS.name, created(policy=policy(evaluation={"report": ("loss",)})))
    some = [
        update_admitted("a", clip_scale=60_000, weight=3, task=TASK),
        update_admitted("b", fidelity=Fidelity(kept=60_000, lost=500), weight=9, task=TASK),
        update_admitted("c", fidelity=Fidelity(kept=1 << 16, lost=100), task=TASK),
        update_admitted("d", zeroed="body_absent", clip_scale=1, task=TASK),
    ]
    reported = round_proposed(0, metrics=MetricSums(sums=(77,), samples=5), task=TASK)
    Journal(log, ROUNDS.name).batch(
        *(RoundOpened(task=TASK, round=0), *some, reported, model_published(1, task=TASK)),
        *(RoundOpened(task=TASK, round=1), round_proposed(1, task=TASK), model_published(2, task=TASK)),
    )
    folded = _fold(log).tasks[TASK]
    with synced(tmp_path / FILE, log) as history:
        known = read_views(history.ask, TASK, versions="all")
    assert known is not None
    assert summarize(known.tasks[TASK]) == summarize(folded)
    assert known.tasks[TASK].makeups == folded.makeups
    assert (folded.makeups[1].clipped, folded.makeups[1].told, folded.makeups[1].members) == (2, 2, 4)
    assert folded.device_metrics


def test_at_any_moment_it_is_as_the_log_folds_it(tmp_path: Path) -> None:
    """A round that fills, one that waits, leases in flight, a task that nobody has noticed: after whatever record."""
    story, folded, seen = tell(), TaskViews(operator=KEY.public_key), set[tuple[bool, bool, bool]]()
    parts = [scan(story.log, TopicPartition(topic, story.partition)) for topic in folded.topics]
    with opened(tmp_path / FILE) as history:
        projector = Projector(history, OPERATOR)
        for number, record in enumerate(heapq.merge(*parts, key=lambda record: record.time_ms)):
            projector.apply(record)
            folded.apply(record)
            if number % MOMENTS:
                continue
            projector.flush()
            known = read_views(history.ask)
            assert known is not None
            for name, view in folded.tasks.items():
                if view.created is not None:
                    assert summarize(known.tasks[name]) == summarize(view), (record.place, name)
                    seen.add((view.buffer_fill > 0, bool(view.rounds_pending), bool(view.leases)))
    assert len(seen) > 3


@pytest.mark.parametrize("name", ["nobody", "no'body", "digits' OR true --", "", "DIGITS"])
def test_a_name_that_is_none_finds_nothing(tmp_path: Path, name: str) -> None:
    """Whatever somebody types."""
    with synced(tmp_path / FILE, tell().log) as history:
        known = read_views(history.ask, name)
    assert known is not None
    assert known.tasks == {}


def test_readers_of_private_tasks_are_not_shown_half(tmp_path: Path) -> None:
    """Their tables leave out what a view needs; of a task without privacy they hold all."""
    with synced(tmp_path / FILE, tell().log, READER) as history:
        assert read_views(history.ask) is None
        assert read_views(history.ask, "private-0") is None
        assert read_views(history.ask, "digits") is not None


def _score_by_quorum() -> EventLog:
    """Four versions, three evaluators and two cohorts, of which some agree, some lie, and some are not done."""
    rules = policy(evaluation={"quorum": 2, "disagreement_max": 0.1})
    log, begun = memory_log(), created(policy=rules)
    said = [(0, 1, 0.8), (0, 2, 0.1), (0, 3, 0.82), (1, 1, 0.7), (1, 2, 0.75), (2, 1, 0.9), (3, 1, 0.9), (3, 2, 0.1)]
    by_cohort = [(3, 1, 0.9, "lab"), (3, 2, 0.85, "lab"), (3, 1, 0.5, "west"), (3, 1, 0.1, "lab")]
    words = [
        VersionEvaluated(
            task=TASK,
            version=version,
            metrics={"accuracy": value, "other": value},
            samples=5,
            cohort="",
            evaluator=evaluator_id(serial),
        )
        for version, serial, value in said
    ]
    for (_, serial, _), word in zip(said, words, strict=True):
        append(log, EVALUATIONS.name, scored(word, serial=serial))
    for version, serial, value, cohort in by_cohort:
        word = replace(words[0], version=version, metrics={"accuracy": value}, cohort=cohort)
        append(log, EVALUATIONS.name, scored(replace(word, evaluator=evaluator_id(serial)), serial=serial))
    append(log, TASKS.name, begun)
    journal = Journal(log, ROUNDS.name)
    journal.batch(Noticed(fact=begun), *[model_published(version) for version in range(4)])
    heard = [decision(Noticed(fact=word), topic=EVALUATIONS.name, offset=at) for at, word in enumerate(words)]
    journal.write(batch(journal.chain.at, *heard))
    return log


def test_where_a_quorum_decides_the_final_score_is_shown(tmp_path: Path) -> None:
    """Guarantee: one evaluator's word is no score, and one that lies is not shown; tables and fold say the same."""
    log = _score_by_quorum()
    folded = _fold(log).tasks[TASK]
    assert {version: one.metrics for version, one in folded.evaluations.items()} == {
        0: {"accuracy": 0.8, "other": 0.8},
        1: {"accuracy": pytest.approx(0.725), "other": pytest.approx(0.725)},
    }
    with synced(tmp_path / FILE, log) as history:
        for versions in ("all", "only", "newest"):
            known = read_views(history.ask, versions=versions)  # type: ignore[arg-type]
            assert known is not None
            assert known.tasks[TASK].evaluations == folded.evaluations
            assert summarize(known.tasks[TASK]) == summarize(folded)
        rows = history.ask("SELECT version, metrics ->> 'accuracy', evaluated_on FROM versions ORDER BY version").rows
    assert [(version, value and float(value), samples) for version, value, samples in rows] == [
        (0, 0.8, 15),
        (1, pytest.approx(0.725), 10),
        (2, None, None),
        (3, None, None),
    ]


def test_what_is_not_final_says_what_it_waits_for(tmp_path: Path) -> None:
    """Guarantee: by version and cohort, in the tables and in the fold in the same words, and without a number."""
    log = _score_by_quorum()
    folded = _fold(log).tasks[TASK]
    asked = "SELECT version, cohort, status, standing, metrics FROM scores ORDER BY version, cohort"
    with synced(tmp_path / FILE, log) as history:
        table = history.ask(asked).rows
    contested = "contested: 2 evaluators, 0.8 apart in accuracy, at most 0.1"
    assert summarize(folded)["scored_version"] == 3
    assert summarize(folded)["scores"] == {"all": contested, "lab": "final", "west": "1 of 2 evaluators"}
    assert [row[:4] for row in table] == [
        (0, "", "final", "final"),
        (1, "", "final", "final"),
        (2, "", "waiting", "1 of 2 evaluators"),
        (3, "", "contested", contested),
        (3, "lab", "final", "final"),
        (3, "west", "waiting", "1 of 2 evaluators"),
    ]
    assert [row[4] is not None for row in table] == [True, True, False, False, True, False]
    assert json.loads(table[4][4]) == {"accuracy": pytest.approx(0.875)}
