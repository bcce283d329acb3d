"""Divides partitions among equal workers: a Kafka consumer group, used for nothing else.

A shard host asks it which partitions are its own. Nothing is fetched through it and no offset is committed.
"""

from __future__ import annotations

from kafka import ConsumerRebalanceListener, KafkaConsumer

from streams.kafka.settings import KafkaSettings

SESSION_TIMEOUT_S = 8.0


class Membership:
    """One member of the group `name`, over all partitions of `topic`; for one thread.

    `instance` names it across restarts: a member that is back within the session timeout keeps its partitions.
    """

    def __init__(self, settings: KafkaSettings, name: str, *, topic: str, instance: str | None) -> None:
        self._consumer = KafkaConsumer(
            group_id=settings.add_prefix(name),
            group_instance_id=instance,
            enable_auto_commit=False,
            session_timeout_ms=int(SESSION_TIMEOUT_S * 1000),
            # Four heartbeats in a session: three may be lost before a member counts as gone.
            heartbeat_interval_ms=int(SESSION_TIMEOUT_S * 1000 / 4),
            # Of no effect: nothing is fetched through this consumer.
            auto_offset_reset="latest",
            **settings.client(),
        )
        self._listener = _PauseAssigned(self._consumer)
        self._consumer.subscribe([settings.add_prefix(topic)], listener=self._listener)

    def partitions(self) -> frozenset[int]:
        """The partitions that are this member's now. Call it often: it is also the sign of life to the group."""
        self._consumer.poll(timeout_ms=0)
        return frozenset(at.partition for at in self._consumer.assignment())

    def close(self) -> None:
        """Release the connections."""
        self._consumer.close()


class _PauseAssigned(ConsumerRebalanceListener):  # type: ignore[misc]
    """Pauses whatever is assigned, so that nothing of it is ever fetched."""

    def __init__(self, consumer: KafkaConsumer) -> None:
        self._consumer = consumer

    def on_partitions_assigned(self, assigned: object) -> None:
        self._consumer.pause(*self._consumer.assignment())

    def on_partitions_revoked(self, revoked: object) -> None:
        pass
