"""What holes in a topic cost a worker, against what they cost whoever makes them.

    python -m tests.trials.attacks.gap_flood [--count N]

A stranger aborts N transactions of one record in `checkins`, with a plain record behind each, so that none of the holes
joins the next: each is compared with the log. Then he leaves one transaction open. One line of JSON: his seconds,
the seconds until the selector had decided all that lies behind, their ratio (at most ten is promised), and for how long
the open transaction held the partition.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from confluent_kafka import Producer

from ops.processes import broker
from schemas.events import InputsDropped
from schemas.journal import Batch, open_record
from schemas.topics import CHECKINS, SELECTIONS
from streams.kafka.settings import KafkaSettings
from streams.log import Record, TopicPartition
from tests.worlds.stage import Stage, staged

AT = TopicPartition(CHECKINS.name, 6)
JOURNAL = TopicPartition(SELECTIONS.name, AT.partition)
PATIENCE_S = 300.0


class Stranger:
    """Whoever may write to a topic, with any client: aborts transactions, leaves one open, writes plain records."""

    def __init__(self, settings: KafkaSettings, at: TopicPartition) -> None:
        servers = settings.librdkafka()
        self._topic, self._partition = settings.add_prefix(at.topic), at.partition
        self._plain = Producer({**servers, "linger.ms": 0})
        self._transactions = Producer(
            {
                **servers,
                "linger.ms": 0,
                "transactional.id": f"stranger-{time.time_ns()}",
                "transaction.timeout.ms": 15_000,
            }
        )
        self._transactions.init_transactions(30)

    def abort(self, count: int) -> None:
        """So many holes of an aborted record and its marker, each closed by a plain record."""
        for _ in range(count):
            self.leave_open()
            self._transactions.abort_transaction(30)
            self.write()

    def leave_open(self) -> None:
        """Write in a transaction that does not end."""
        self._transactions.begin_transaction()
        self._produce(self._transactions)

    def write(self) -> None:
        """A plain record of junk."""
        self._produce(self._plain)

    def _produce(self, producer: Producer) -> None:
        producer.produce(self._topic, b"junk", partition=self._partition)
        producer.flush(30)


class Watch:
    """Follows the selector's journal with one reader: asking anew each time would cost more than what is measured."""

    def __init__(self, stage: Stage) -> None:
        self._stage, self._dropped = stage, 0
        self._reader = stage.log.reader({JOURNAL: 0})

    def wait(self, count: int) -> None:
        """Wait until the selector has decided so many records of junk."""
        give_up = time.monotonic() + PATIENCE_S
        while self._dropped < count:
            assert time.monotonic() < give_up, f"{self._dropped} of {count} decided\n{self._stage.tails()}"
            self._dropped += sum(map(count_dropped, self._reader.poll(0.02)))


def count_dropped(record: Record) -> int:
    """How many records of junk a batch of the journal counts."""
    found: Any = open_record(record.value or b"")
    decisions = found.decisions if isinstance(found, Batch) else ()
    events = [event for decision in decisions for event in decision.events]
    return sum(event.count for event in events if isinstance(event, InputsDropped))


def measure(stage: Stage, count: int) -> dict[str, float]:
    """Seconds of both sides."""
    stranger = Stranger(stage.kafka, AT)
    stage.start("selector")
    stranger.write()
    watch = Watch(stage)
    watch.wait(1)
    began_s = time.monotonic()
    stranger.abort(count)
    attacker_s = time.monotonic() - began_s
    watch.wait(1 + count)
    worker_s = time.monotonic() - began_s
    began_s = time.monotonic()
    stranger.leave_open()
    stranger.write()
    watch.wait(2 + count)
    hanging_s = time.monotonic() - began_s
    return {
        "count": count,
        "attacker_s": round(attacker_s, 2),
        "worker_s": round(worker_s, 2),
        "ratio": round(worker_s / attacker_s, 2),
        "hanging_s": round(hanging_s, 1),
    }


def main() -> None:
    """Measure on a broker of its own, and tell."""
    parser = argparse.ArgumentParser(prog="python -m tests.trials.attacks.gap_flood")
    parser.add_argument("--count", type=int, default=100)
    count = parser.parse_args().count
    with tempfile.TemporaryDirectory() as name, broker.run_embedded(Path(name) / "broker") as running:
        kafka = KafkaSettings(**running.connection, topic_prefix="flooded")
        with staged(kafka, Path(name)) as stage:
            sys.stdout.write(json.dumps(measure(stage, count)) + "\n")


if __name__ == "__main__":
    main()
