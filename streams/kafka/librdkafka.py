"""What the two librdkafka clients share: its logger, and the meaning of its errors."""

from __future__ import annotations

import logging
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message
from confluent_kafka.admin import AdminClient

from streams.kafka.settings import KafkaSettings
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

# What a broker says before it hangs up, and what to do about it.
_HANGS_UP = {
    KafkaError._AUTHENTICATION: "check the name and the password (--sasl-username, FEDLOG_SASL_PASSWORD)",
    KafkaError._SSL: (
        "check the authority (--ssl-cafile) and the dates of both certificates; `fedlog ca renew` makes a new one"
    ),
}
_REFUSAL_WAIT_S, _REFUSAL_TRIES = 0.5, 10

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


def find_refusal(settings: KafkaSettings) -> str:
    """Why brokers that are there let nobody in, and what to do; empty where they do, or are away."""
    said: list[KafkaError] = []
    options: dict[str, Any] = {**settings.librdkafka(), "error_cb": said.append}
    client = AdminClient(options, logger=librdkafka_logger)
    for _ in range(_REFUSAL_TRIES):
        try:
            client.list_topics(timeout=_REFUSAL_WAIT_S)
            return ""
        except KafkaException as error:
            client.poll(0)
            said.append(error.args[0])
        # As soon as it is known: no other answer will come.
        for one in said:
            if one.code() in _HANGS_UP:
                # Its words begin with an address and end with how long each step took.
                return f"{one.str().split(' (')[0]}: {_HANGS_UP[one.code()]}"
    return ""
