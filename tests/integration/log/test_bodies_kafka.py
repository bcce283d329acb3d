"""Bodies on a real broker."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import msgspec
import pytest

from streams.bodies import Absent, BodyReader, store
from streams.kafka.log import KafkaLog
from streams.log import TopicPartition


@dataclass(frozen=True)
class Spec:
    """The topic of these tests."""

    name: str = "bodies"
    partitions: int = 1
    config: dict[str, str] = field(default_factory=dict)


@pytest.mark.parametrize("bulk", [False, True], ids=["few", "bulk"])
@pytest.mark.parametrize("budget_bytes", [2**20, 64 * 2**20])
def test_bodies_in_scrambled_order(kafka_log: KafkaLog, budget_bytes: int, bulk: bool) -> None:
    """Bodies of 900 KB come back whole in any order, within a budget of one body too; forged refs are absent."""
    kafka_log.create_topics([Spec()])
    dice = random.Random(7)
    wanted = [dice.randbytes(900_000) for _ in range(20)]
    place = TopicPartition("bodies", 0)
    refs = [store(kafka_log, place, data=data, upload_id=f"{n}", codec="raw") for n, data in enumerate(wanted)]
    order = dice.sample(range(20), 20)
    reader = BodyReader(kafka_log, "bodies", 0, budget_bytes=budget_bytes, bulk=bulk)
    try:
        for number in order[:15]:
            assert reader.fetch(refs[number]) == wanted[number]
        kafka_log.delete_records(TopicPartition("bodies", 0), refs[10].offsets[0])
        for number in order[15:]:
            found = reader.fetch(refs[number])
            assert found == wanted[number] or (number < 10 and found == Absent("below the beginning"))
        last = refs[19].offsets[-1]
        beyond = msgspec.structs.replace(refs[19], offsets=(last, last + 1))
        assert reader.fetch(beyond) == Absent("past the end")
        assert reader.fetch(refs[0]) == Absent("below the beginning")
    finally:
        reader.close()
