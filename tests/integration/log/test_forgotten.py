"""Transactions that a crashed broker has forgotten: readers wait at them, and the next writer aborts them."""

from __future__ import annotations

import json
import time
from pathlib import Path

from schemas.topics import CATALOGUE, PUBLISHED, ROUNDS
from streams.kafka.log import KafkaLog
from streams.kafka.settings import KafkaSettings
from streams.log import Draft, TopicPartition, scan
from tests.places import home_of
from tests.worlds.deployment.forgotten import forget_transaction
from tests.worlds.releasing.deciding import rollout_policy
from tests.worlds.stage import staged

TASK = "released"
JOURNAL, BESIDE = TopicPartition(ROUNDS.name, 1), TopicPartition(PUBLISHED.name, 1)


def test_what_a_broker_has_forgotten_is_ended(kafka_settings: KafkaSettings, kafka_log: KafkaLog) -> None:
    """A transaction of which the coordinator knows nothing holds readers back until the next writer is there.

    Kafka 4.3.1 leaves such ones behind when it is killed in the midst of a commit. Here one is made by not telling it.
    """
    kafka_log.create_topics(CATALOGUE, partitions=2)
    forget_transaction(kafka_settings, kafka_log, at=BESIDE)
    kafka_log.writer("w").commit([Draft(**JOURNAL._asdict(), value=b"a claim")])
    _await_end(kafka_log, JOURNAL, 2)
    assert (kafka_log.bounds(BESIDE).end, kafka_log.find_written_end(BESIDE)) == (0, 1)
    kafka_log.writer("w", settles=[BESIDE])
    _await_end(kafka_log, BESIDE, 2)
    assert [*scan(kafka_log, BESIDE)] == []
    kafka_log.writer("w", settles=[BESIDE]).commit([Draft(**BESIDE._asdict(), value=b"written anew")])
    _await_end(kafka_log, BESIDE, 5)
    assert [record.value for record in scan(kafka_log, BESIDE)] == [b"written anew"]


def test_an_aggregator_waits_for_what_a_rollout_left_open(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    """What a rollout left open in `published` holds an aggregator back that starts, until the rollout claims again.

    `fedlog doctor` says meanwhile whom to start, and the aggregator goes on by itself then.
    """
    home = home_of(TASK)
    with staged(kafka_settings, tmp_path) as stage:
        stage.create_task(TASK, rollout_policy(stages=[{"share": 1.0}]), parameters=4)
        [first] = stage.start("aggregator")
        stage.until_version(TASK, 0)
        first.kill()
        forget_transaction(kafka_settings, stage.log, at=TopicPartition(PUBLISHED.name, home), name=f"rollout.{home}")
        [again] = stage.start("aggregator")
        stage.until(lambda: len(again.openings) == stage.log.partitions - 1, "all partitions but one", timeout_s=90)
        told = json.loads(stage.fedlog("doctor", "--json", "--hanging-s", "0").stdout)["findings"]
        [hanging] = [finding for finding in told if finding["check"] == "transactions"]
        assert hanging["subject"] == f"{PUBLISHED.name}[{home}]"
        assert "fedlog worker rollout" in hanging["remedy"]
        assert home not in {opened["partition"] for opened in again.openings}
        stage.start("rollout")
        stage.until(lambda: len(again.openings) == stage.log.partitions, "the last partition", timeout_s=90)


def _await_end(log: KafkaLog, at: TopicPartition, end: int) -> None:
    give_up_s = time.monotonic() + 60
    while log.bounds(at).end < end and time.monotonic() < give_up_s:
        time.sleep(0.05)
    assert log.bounds(at).end == end
