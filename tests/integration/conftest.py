"""What the integration tests share: one embedded Kafka for the session, and a topic prefix of its own for each test."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from ops.broker_state import find_running
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
def kafka_settings(broker_folder: Path) -> Iterator[KafkaSettings]:
    """Settings with a topic prefix that no other test has; the topics under it are gone afterwards."""
    handle = broker.start(broker_folder)
    prefix = f"test-{uuid.uuid4().hex[:8]}"
    yield KafkaSettings(**handle.connection, topic_prefix=prefix)
    # One that was killed looks through all its partitions before it answers: those of a whole session take minutes.
    if (running := find_running(broker_folder)) is not None:
        delete_topics(KafkaSettings(**running.connection, topic_prefix=prefix))


def delete_topics(settings: KafkaSettings) -> None:
    """Delete what a test has left; where the broker does not, the tests after it only wait longer."""
    with contextlib.suppress(KafkaError), contextlib.closing(KafkaAdminClient(**settings.client())) as admin:
        admin.delete_topics([name for name in admin.list_topics() if name.startswith(settings.topic_prefix)])


@pytest.fixture
def kafka_log(kafka_settings: KafkaSettings) -> Iterator[KafkaLog]:
    """A log on the session's broker, without topics."""
    log = KafkaLog(kafka_settings)
    try:
        yield log
    finally:
        log.close()
