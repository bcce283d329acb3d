"""A transaction of which the coordinator knows nothing, as Kafka 4.3.1 leaves them behind when it is killed.

Kafka does so in the midst of a commit; here one is made by not telling it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from kafka import KafkaAdminClient
from kafka import TopicPartition as BrokerPartition
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import InvalidTxnStateError

from streams.kafka.log import KafkaLog
from streams.kafka.settings import KafkaSettings
from streams.log import Draft, TopicPartition

WRITER = "w"
_WITHIN_S = 60


def forget_transaction(settings: KafkaSettings, log: KafkaLog, *, at: TopicPartition, name: str = WRITER) -> None:
    """Leave a transaction of a writer with one record behind, which holds back every reader of this partition."""
    place = BrokerPartition(settings.add_prefix(at.topic), at.partition)
    with _without_verification(settings):
        give_up_s = time.monotonic() + _WITHIN_S
        while True:
            writer = log.writer(name)
            writer.begin()
            # As if the partition had been added to it.
            writer._producer._transaction_manager._partitions_in_transaction.add(place)
            try:
                writer.put([Draft(**at._asdict(), value=b"forgotten")])
                return
            # A changed setting of a broker holds a moment after it was acknowledged.
            except InvalidTxnStateError:
                assert time.monotonic() < give_up_s


@contextmanager
def _without_verification(settings: KafkaSettings) -> Iterator[None]:
    """Meanwhile the broker takes records of transactions that its coordinator does not know."""
    name, admin = "transaction.partition.verification.enable", KafkaAdminClient(**settings.client())
    try:
        admin.alter_configs([ConfigResource(ConfigResourceType.BROKER, "1", {name: "false"})])
        yield
    finally:
        admin.alter_configs([ConfigResource(ConfigResourceType.BROKER, "1", {name: "true"})])
        admin.close()
