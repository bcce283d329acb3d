"""The projector believes signatures, not places, and counts what it passes over."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.history.following import Follower
from ops.history.projections import TaskViews
from ops.history.tables.facts import SECRETS
from ops.history.tables.projector import HistoryGap, Projector, Viewer
from ops.history.tables.syncing import sync
from schemas.topics import EVALUATIONS, JOURNALS, ROUNDS, TASKS, UPDATES
from streams.journals import JournalBroken
from streams.log import TopicPartition, scan
from tests.tables import OPERATOR, READER, list_rows, opened, synced, tell
from tests.worlds.builders import KEY, batch, model_published, update_admitted
from tests.worlds.ops_journal import PLACE, TASK, Journal, append, created, memory_log

FILE = "history.duckdb"


def test_the_tables_agree_with_another_fold_of_the_log(tmp_path: Path) -> None:
    """`TaskViews` folds the same log for the console: versions, updates, leases, budget and status are the same."""
    story, views = tell(), TaskViews(operator=KEY.public_key)
    with Follower(story.log, views) as follower:
        follower.catch_up()
    with synced(tmp_path / FILE, story.log) as history:
        rows = {row[0]: row[1:] for row in history.ask("SELECT task, status, version FROM tasks").rows}
        admitted = dict(history.ask("SELECT task, count(*) FROM updates WHERE outcome = 'admitted' GROUP BY 1").rows)
        leases = dict(history.ask("SELECT task, count(*) FROM leases GROUP BY 1").rows)
        spent = dict(history.ask("SELECT task, max(rho_total) FROM ledger GROUP BY 1").rows)
    assert len(rows) > 3
    for task, view in views.tasks.items():
        assert rows[task] == (view.status, view.version), task
        assert admitted.get(task, 0) == view.admitted
        assert leases.get(task, 0) == view.leases_granted
        assert (spent.get(task) or 0.0) == view.rho
    assert sum(admitted.values()) > 20


def test_what_nobody_vouches_for_is_no_event(tmp_path: Path) -> None:
    """Junk and strangers' records in every topic: they are counted where that is known, and are rows nowhere else."""
    log = memory_log()
    append(log, TASKS.name, created())
    journal = Journal(log, ROUNDS.name)
    journal.batch(update_admitted("d1"))
    with synced(tmp_path / "before", log) as history:
        before = list_rows(history)
    for topic in (TASKS, EVALUATIONS, UPDATES, ROUNDS):
        append(log, topic.name, b"junk")
    with synced(tmp_path / "after", log) as history:
        after = list_rows(history)
        assert history.ask("SELECT sum(strangers) FROM workers").rows == [(1,)]
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"marks", "workers", "events", "facts.passed_over"}


def test_a_broken_journal_is_named_and_stores_nothing_of_it(tmp_path: Path) -> None:
    """What stood before it is kept; a second try finds the same place."""
    log = memory_log()
    journal = Journal(log, ROUNDS.name)
    journal.batch(update_admitted("d1"))
    journal.write(batch(journal.chain.at, seq=9), follow=False)
    for _ in range(2):
        with opened(tmp_path / FILE) as history, pytest.raises(JournalBroken, match=r"rounds\["):
            sync(log, history, viewer=OPERATOR)


def test_readers_of_a_private_task_see_no_secrets(tmp_path: Path) -> None:
    """Without the operator's key neither clip scales nor digests nor what was zeroed are stored at all."""
    asked = (
        "SELECT count(clip_scale), count(sha256), count(zeroed), count(*) FROM updates WHERE outcome = 'admitted' AND"
    )
    private = "task IN (SELECT task FROM tasks WHERE private)"
    log = tell().log
    with synced(tmp_path / "operator", log) as history:
        scales, digests, zeroed, admitted = history.ask(f"{asked} {private}").rows[0]
        assert scales == digests == admitted > 0
        assert zeroed > 0
    with synced(tmp_path / "reader", log, READER) as history:
        assert history.ask(f"{asked} {private}").rows == [(0, 0, 0, admitted)]
        assert history.ask(f"{asked} NOT {private}").rows[0][0] > 0
        stored = history.ask("SELECT count(body_sha256), count(salt) FROM facts.update_admitted WHERE " + private).rows
        assert stored == [(0, 0)]


def test_no_secret_is_stored_before_its_task_is_known(tmp_path: Path) -> None:
    """A consumer hands out partitions in any order: updates may come before the task that they belong to."""
    log, partition = tell().log, tell().partition
    with opened(tmp_path / FILE, READER) as history:
        projector = Projector(history, READER)
        for topic in (UPDATES, TASKS, EVALUATIONS, *(topic for topic in JOURNALS)):
            for record in scan(log, TopicPartition(topic.name, partition)):
                projector.apply(record)
        projector.flush()
        private = "task IN (SELECT task FROM tasks WHERE private)"
        for fact in ("submission", "update_admitted", "sum_stored"):
            secrets = sorted(SECRETS & {column for (column, *_) in history.ask(f"DESCRIBE facts.{fact}").rows})
            counted = ", ".join(f"count({name})" for name in secrets)
            *found, rows = history.ask(f"SELECT {counted}, count(*) FROM facts.{fact} WHERE {private}").rows[0]
            assert (rows > 0, sum(found)) == (True, 0), (fact, secrets)


def test_what_retention_has_taken_is_a_gap(tmp_path: Path) -> None:
    """A history that has not read it says so, and does not go on as if nothing were missing."""
    log = memory_log()
    append(log, UPDATES.name, b"one")
    with synced(tmp_path / FILE, log):
        pass
    append(log, UPDATES.name, b"two")
    append(log, UPDATES.name, b"three")
    log.delete_records(TopicPartition(UPDATES.name, PLACE), 2)
    with opened(tmp_path / FILE) as history, pytest.raises(HistoryGap, match="fedlog history rebuild"):
        sync(log, history, viewer=OPERATOR)
    with synced(tmp_path / "anew", log) as history:
        assert history.ask("SELECT \"offset\" FROM marks WHERE topic = 'updates'").rows == [(3,)]


def test_another_deployment_is_nothing_here(tmp_path: Path) -> None:
    """The operator's own words of another deployment, copied into this log, create no task."""
    log = memory_log()
    append(log, TASKS.name, created(deployment=b"elsewhere--------"[:16]))
    Journal(log, ROUNDS.name).batch(model_published(0, round=None))
    elsewhere = Viewer(operator=KEY.public_key, deployment=OPERATOR.deployment, is_operator=True)
    with synced(tmp_path / FILE, log, elsewhere) as history:
        assert history.ask("FROM tasks").rows == []
        assert history.ask("SELECT task, version FROM versions").rows == [(TASK, 0)]


def test_nothing_is_stored_before_it_is_flushed(tmp_path: Path) -> None:
    """Rows wait in memory, and their marks with them."""
    log = memory_log()
    append(log, TASKS.name, created())
    with opened(tmp_path / FILE) as history:
        projector = Projector(history, OPERATOR)
        reader = log.reader({TopicPartition(TASKS.name, PLACE): 0})
        for record in reader.poll(0):
            projector.apply(record)
        assert (projector.waiting, history.read_marks()) == (1, {})
        projector.flush()
        assert projector.waiting == 0
        assert history.read_marks()[TopicPartition(TASKS.name, PLACE)].offset == 1
