"""What the integration tests share: one embedded Kafka for the session, and a topic prefix of its own for each test."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.processes import broker
from streams.kafka.log import KafkaLog
from streams.kafka.settings import KafkaSettings


@pytest.fixture(scope="session")
def broker_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a running embedded Kafka; it may be crashed and restarted through `ops.processes.broker`."""
    folder = tmp_path_factory.mktemp("broker")
    with broker.run_embedded(folder):
        yield folder


@pytest.fixture
def kafka_settings(broker_folder: Path) -> KafkaSettings:
    """Settings with a topic prefix that no other test has."""
    handle = broker.start(broker_folder)
    prefix = f"test-{uuid.uuid4().hex[:8]}"
    return KafkaSettings(**handle.connection, topic_prefix=prefix)


@pytest.fixture
def kafka_log(kafka_settings: KafkaSettings) -> Iterator[KafkaLog]:
    """A log on the session's broker, without topics."""
    log = KafkaLog(kafka_settings)
    try:
        yield log
    finally:
        log.close()
