"""What the two librdkafka clients share: its logger, and the meaning of its errors."""

from __future__ import annotations

import logging

from confluent_kafka import KafkaError, Message

from streams.log import LogError, LogRefused, LogUnavailable
from streams.notes import Notes

LOST = frozenset((KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE))
_REFUSED = frozenset(
    (
        KafkaError._AUTHENTICATION,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.UNSUPPORTED_VERSION,
    )
)
# After these it is unknown what the log holds of an append, and it may be tried again.
_UNAVAILABLE = frozenset(
    (
        KafkaError._MSG_TIMED_OUT,
        KafkaError._TIMED_OUT,
        KafkaError._TRANSPORT,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._UNKNOWN_PARTITION,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.NOT_ENOUGH_REPLICAS,
        KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        # These end this appender, not the next: the broker forgot what it has sent, and what had not left is purged.
        KafkaError._FATAL,
        KafkaError._PURGE_QUEUE,
        KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER,
        KafkaError.UNKNOWN_PRODUCER_ID,
        KafkaError.INVALID_PRODUCER_EPOCH,
    )
)

logger = Notes(__name__)
# Silent unless an application adds a handler: on a console its lines would be noise between ours.
librdkafka_logger = logging.getLogger("librdkafka")
librdkafka_logger.addHandler(logging.NullHandler())


def read_offset(message: Message) -> int:
    """The offset of a message; -1 where librdkafka knows none, for which its Python client gives None."""
    offset = message.offset()
    # None would fail in the next comparison, and end a process in which only an append has to be tried again.
    return -1 if offset is None else offset


def note_client_error(refusals: list[KafkaError], error: KafkaError) -> None:
    """Take an error that belongs to no record: wait for a broker that is away, add a refusal to `refusals`."""
    if error.code() in _REFUSED:
        refusals.append(error)
    logger.debug("waiting_for_broker", error=error.str())


def append_error(error: KafkaError) -> LogError:
    """The log's error for an append that failed."""
    is_away = error.retriable() or error.code() in _UNAVAILABLE
    kind = LogRefused if error.code() in _REFUSED else LogUnavailable if is_away else LogError
    return kind(f"appending: {error.str()}")
