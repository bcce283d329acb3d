"""A record in any codec that Kafka knows is read by every reader, also where an older topic holds it as it was sent."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from schemas.events import InputsDropped
from schemas.topics import BODIES, CATALOGUE, CHECKINS, ROUNDS, SELECTIONS, SHARDS, TASKS, UPDATES, Topic
from streams.kafka.log import KafkaLog
from streams.kafka.settings import KafkaSettings
from streams.log import TopicPartition, scan
from tests.judges.logbook import read
from tests.root import ROOT
from tests.trials.attacks.strangers import CODECS, alter, send
from tests.worlds.stage import Stage, staged

PARTITION = 3
# What devices write, and what a cluster without rights lets them write.
WRITTEN = (CHECKINS, UPDATES, TASKS, BODIES, SHARDS)
DECIDED = {CHECKINS.name: SELECTIONS.name, UPDATES.name: ROUNDS.name, TASKS.name: ROUNDS.name}
PATIENCE_S = float(os.environ.get("PATIENCE_S", "60"))
JUNK = b"neither a check-in nor an update " * 10


@dataclass(frozen=True)
class OldTopic:
    """A topic as fedlog made it before it had an opinion on compression."""

    name: str
    config: dict[str, str]


def as_before(topic: Topic) -> OldTopic:
    """The topic with the broker's own settings for compression and size."""
    config = topic.config | {"compression.type": "producer", "max.message.bytes": "1048588"}
    return OldTopic(topic.name, config)


@pytest.mark.timeout(240)
def test_a_codec_stops_nobody(kafka_log: KafkaLog, kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    """Law 9: one small record in another codec ended every worker for good; now it is junk, which is counted.

    Half of them lie in the log as they were sent, from before the topics had their settings.
    """
    kafka_log.create_topics([as_before(topic) for topic in WRITTEN])
    send_everywhere(kafka_settings)
    for topic in WRITTEN:
        alter(kafka_log, kafka_settings, topic.name, topic.config)
    with staged(kafka_settings, tmp_path) as stage:
        send_everywhere(kafka_settings)
        for reader in (kafka_log.reader, kafka_log.bulk_reader):
            kafka_log.reader = reader  # type: ignore[method-assign,assignment]
            for topic in WRITTEN:
                found = [record.value for record in scan(kafka_log, TopicPartition(topic.name, PARTITION))]
                assert found == [JUNK] * 2 * len(CODECS)
        workers = stage.start("selector", "aggregator")
        for topic in DECIDED:
            stage.until(
                lambda topic=topic: dropped(stage, topic) == 2 * len(CODECS),
                f"all junk of {topic} counted",
                timeout_s=PATIENCE_S,
            )
        assert [(worker.starts, worker.is_supervised) for worker in workers] == [(1, True)] * 2, stage.tails()


@pytest.mark.timeout(120)
def test_a_consumer_that_dies_says_why(kafka_log: KafkaLog, kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    """A worker that ends because its consumer has died leaves a line with the reason: without one nobody can help."""
    (tmp_path / "cramjam.py").write_text('raise ImportError("not on this machine")')
    kafka_log.create_topics([as_before(CHECKINS)])
    assert send(kafka_settings, TopicPartition(CHECKINS.name, PARTITION), JUNK, **{"compression.type": "lz4"}) is None
    alter(kafka_log, kafka_settings, CHECKINS.name, CHECKINS.config)
    with staged(kafka_settings, tmp_path) as stage:
        [worker] = stage.start("selector", source=f"{tmp_path}{os.pathsep}{ROOT}")
        stage.until(lambda: worker.starts >= 2, "a death", timeout_s=PATIENCE_S)
        lines = [line for line in worker.log_file.read_text().splitlines() if '"consumer_died"' in line]
        assert lines, stage.tails()
        said = json.loads(lines[0])
        assert (said["level"], said["actor"]) == ("critical", "selector")
        assert "UnsupportedCodecError" in said["error"]
        assert "Traceback" in said["exception"]


def send_everywhere(settings: KafkaSettings) -> None:
    """One record of junk in each codec to each topic."""
    for topic in WRITTEN:
        for codec in CODECS:
            at = TopicPartition(topic.name, PARTITION)
            assert send(settings, at, JUNK, **{"compression.type": codec}) is None


def dropped(stage: Stage, topic: str) -> int:
    """How many records of a topic its actor has counted as junk."""
    journal = read(stage.log, PARTITION).journals[DECIDED[topic]]
    return sum(event.count for event in journal.events(InputsDropped) if event.topic == topic)


def test_every_codec_is_named() -> None:
    """A codec that Kafka learns later would have to be tried here too."""
    from aiokafka.record.default_records import DefaultRecordBatch

    codecs = {name.removeprefix("CODEC_").lower() for name in dir(DefaultRecordBatch) if name.startswith("CODEC_")}
    assert codecs - {"none", "mask"} == set(CODECS)
    assert {topic.name for topic in WRITTEN} <= {topic.name for topic in CATALOGUE}
