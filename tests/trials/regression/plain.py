"""What a stranger finds of a rollback: kafka-python, msgpack and json, and nothing of fedlog. A script of its own.

    python -I plain.py CLIENT PREFIX TASK

CLIENT is kafka-python's settings as JSON. Prints one JSON object: what `published` announces, and what the journal of
the rollout says, both in the order of the log.
"""

from __future__ import annotations

import json
import sys
from contextlib import closing
from typing import Any

import msgpack
from kafka import KafkaConsumer, TopicPartition


def read(client: dict[str, Any], topic: str) -> list[bytes]:
    """All that is committed in a topic."""
    found: list[bytes] = []
    with closing(KafkaConsumer(group_id=None, isolation_level="read_committed", **client)) as consumer:
        places = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()]
        consumer.assign(places)
        consumer.seek_to_beginning(*places)
        ends = consumer.end_offsets(places)
        while any(consumer.position(at) < ends[at] for at in places):
            for records in consumer.poll(timeout_ms=200).values():
                found += [record.value for record in records]
    return found


def main() -> None:
    """The two stories of one task."""
    client, prefix, task = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3]
    announced = [json.loads(value) for value in read(client, f"{prefix}.published")]
    batches = [msgpack.unpackb(msgpack.unpackb(value)[0]) for value in read(client, f"{prefix}.rollouts")]
    events = [event for batch in batches for made in batch.get("decisions", ()) for event in made["events"]]
    told = {
        "published": [each["data"] | {"type": each["type"]} for each in announced if each["data"]["task"] == task],
        "journal": [each for each in events if each.get("task") == task],
    }
    sys.stdout.write(json.dumps(told, default=bytes.hex))


if __name__ == "__main__":
    main()
