"""What Faust is asked for, seen from outside: every partition is opened, and nothing uncommitted is ever read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from schemas.events import JournalEvent, Noticed, TaskCreated, TaskPaused
from schemas.journal import Chain
from schemas.topics import ROUNDS, SELECTIONS, TASKS
from streams.kafka.settings import KafkaSettings
from streams.kafka.writer import KafkaWriter
from streams.log import Draft, TopicPartition
from tests.judges.logbook import read
from tests.places import PARTITIONS, home_of
from tests.worlds.builders import batch, decision, policy, task_created, writer_claimed, written
from tests.worlds.ops_journal import journalled
from tests.worlds.stage import Stage, staged

TASK = "task"
PARTITION = home_of(TASK)
PATIENCE_S = float(os.environ.get("PATIENCE_S", "60"))


@pytest.mark.timeout(120)
def test_quiet_partitions_are_opened(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    """Law 3: a worker claims each of its partitions though no input ever comes, so that nobody waits for ever."""
    with staged(kafka_settings, tmp_path) as stage:
        stage.start("privacy")
        stage.until(lambda: claimed(stage, "ledger") == PARTITIONS, "a claim in each partition", timeout_s=PATIENCE_S)


@pytest.mark.timeout(120)
def test_what_was_aborted_is_never_read(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    """A journal's reader sees committed records only: an aborted batch, though well-formed, changes nothing."""
    with staged(kafka_settings, tmp_path) as stage:
        created = task_created(policy(), task=TASK, deployment=stage.deployment)
        paused = TaskPaused(task=TASK, deployment=stage.deployment, number=1)
        # Signed by the operator, or no selector believes the journal.
        stage.log.append(
            [
                Draft(topic=TASKS.name, partition=PARTITION, value=written(event, stage.key))
                for event in (created, paused)
            ]
        )
        chain, dead = Chain(ROUNDS.name, PARTITION), KafkaWriter(kafka_settings, f"aggregator.{PARTITION}")
        claim(dead, chain, stage)
        dead.begin()
        dead.put([drafted(chain, [Noticed(fact=created)], stage)])
        # The next writer of the name fences it, which aborts what it left open.
        alive = KafkaWriter(kafka_settings, f"aggregator.{PARTITION}")
        follows = Chain(ROUNDS.name, PARTITION)
        for offset, value in committed(stage):
            follows.follow(offset, value)
        claim(alive, follows, stage)
        alive.commit([drafted(follows, [Noticed(fact=created), Noticed(fact=paused)], stage)])
        stage.start("selector")
        stage.until(lambda: noticed(stage), "a notice of what was committed", timeout_s=PATIENCE_S)
        assert [type(fact) for fact in noticed(stage)] == [TaskCreated, TaskPaused]


def claim(writer: KafkaWriter, chain: Chain, stage: Stage) -> None:
    """Claim the aggregator's journal."""
    at = TopicPartition(ROUNDS.name, PARTITION)
    claimed = writer_claimed(partition=PARTITION, after=stage.log.find_written_end(at))
    value = journalled(claimed, *at, key=stage.key, deployment=stage.deployment)
    [offset] = writer.commit([Draft(topic=ROUNDS.name, partition=PARTITION, value=value)])
    chain.follow(offset, value)


def drafted(chain: Chain, events: Sequence[JournalEvent], stage: Stage) -> Draft:
    """The next batch of the chain, with one decision."""
    decided = batch(chain.at, decision(*events, topic="tasks", time_ms=1))
    value = journalled(decided, ROUNDS.name, PARTITION, key=stage.key, deployment=stage.deployment)
    return Draft(topic=ROUNDS.name, partition=PARTITION, value=value)


def committed(stage: Stage) -> list[tuple[int, bytes]]:
    """The aggregator's journal as a reader of committed records sees it."""
    at = TopicPartition(ROUNDS.name, PARTITION)
    reader = stage.log.reader({at: 0})
    try:
        return [(record.offset, record.value or b"") for record in reader.poll(5.0)]
    finally:
        reader.close()


def claimed(stage: Stage, journal: str) -> int:
    """How many partitions of a journal hold anything."""
    return sum(stage.log.bounds(TopicPartition(journal, number)).end > 0 for number in range(PARTITIONS))


def noticed(stage: Stage) -> list[object]:
    """What the selector has noticed, in order."""
    return [event.fact for event in read(stage.log, PARTITION).journals[SELECTIONS.name].events(Noticed)]
