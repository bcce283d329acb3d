"""When the log on Kafka connects."""

from __future__ import annotations

import socket
from contextlib import closing

import pytest

from streams.kafka.log import KafkaLog
from streams.kafka.settings import KafkaSettings


def test_who_will_append_connects_at_once() -> None:
    """Guarantee: the first append of a process that starts does not wait for a connection, which takes half a second.

    A log that only reads opens none for appends, because a reader may have no right to write.
    """
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        listening.settimeout(0.3)
        settings = KafkaSettings(bootstrap_servers=f"127.0.0.1:{listening.getsockname()[1]}")
        with closing(KafkaLog(settings)), pytest.raises(TimeoutError):
            listening.accept()
        listening.settimeout(60)
        with closing(KafkaLog(settings, will_append=True)):
            connection, _ = listening.accept()
            connection.close()
