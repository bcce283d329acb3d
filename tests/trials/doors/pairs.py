"""Every principal at every door of a broker: each topic, group and transactional id, and what the table says of it.

What is tried is tried in earnest, on topics under a prefix of its own, where junk harms nobody; what is expected is
read from the table without the code that compares a cluster with it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from kafka import KafkaAdminClient, errors
from kafka import TopicPartition as BrokerPartition
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.structs import OffsetAndMetadata

from ops.doors.rights import BULK_READERS, RIGHTS, Rights, find_rights
from schemas.topics import CATALOGUE, TASKS
from streams.kafka import access
from streams.kafka.settings import KafkaSettings
from streams.log import LogRefused

# Long enough for a busy broker, and only ever waited for where it says nothing at all.
PATIENCE_S = 60
BROKER = 1
WORKERS = [name for name, rights in RIGHTS.items() if rights.is_worker]
ACTORS = [name for name, rights in RIGHTS.items() if rights.is_actor]
NOTHING = Rights(reads=())
REFUSALS = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
}
SILENT = logging.getLogger("pairs")
SILENT.addHandler(logging.NullHandler())
SILENT.propagate = False


@dataclass(frozen=True, slots=True)
class Try:
    """One principal at one door: what it tried there, whether it may, and whether it could."""

    principal: str
    action: str
    name: str
    is_expected: bool
    is_allowed: bool

    @property
    def is_wrong(self) -> bool:
        return self.is_expected is not self.is_allowed


class Unclear(AssertionError):
    """A broker said something else than yes or no."""


def try_all(principal: str, settings: KafkaSettings) -> Iterator[Try]:
    """Every door, for one principal that has a password; a stranger to the table may do nothing."""
    rights = find_rights(principal) or NOTHING
    for action, found, may in (
        ("write", _write(settings), rights.writes),
        ("read", _read(settings), rights.reads),
        ("delete", _delete(settings), rights.deletes),
        ("configure", _configure(settings), ()),
    ):
        allowed = {topic.name for topic in may}
        yield from (Try(principal, action, name, name in allowed, is_so) for name, is_so in found.items())
    yield Try(principal, "create", "topic", False, _create(settings))
    for group in (*WORKERS, BULK_READERS, "subscribers.mine", "strangers"):
        own = principal if rights.is_worker else f"{principal}.mine" if rights.has_groups else ""
        yield Try(principal, "join", group, group == own, _join(settings, group))
    for writer in (*(f"{actor}.0" for actor in ACTORS), "selectors.0", "operator.0"):
        may_start = rights.is_actor and writer == f"{principal}.0"
        yield Try(principal, "start", writer, may_start, _start(settings, writer))
    yield Try(principal, "grant", "rights", False, _is_let(lambda: access.list_rules(settings)))
    unlimited: dict[str, dict[str, float | None]] = {principal: {"request_percentage": None}}
    yield Try(principal, "limit", "quotas", False, _is_let(lambda: access.set_quotas(settings, unlimited)))


def _write(settings: KafkaSettings) -> dict[str, bool]:
    """A record into each topic."""
    found: dict[str, bool] = {}
    producer = Producer(
        {**settings.librdkafka(), "acks": "all", "message.timeout.ms": PATIENCE_S * 1000}, logger=SILENT
    )
    for topic in CATALOGUE:

        def keep(error: KafkaError | None, _: object, name: str = topic.name) -> None:
            found[name] = _is_yes(error)

        producer.produce(settings.add_prefix(topic.name), b"junk", b"key", partition=0, on_delivery=keep)
    producer.flush(PATIENCE_S)
    return _require_all(found)


def _read(settings: KafkaSettings) -> dict[str, bool]:
    """The first record of each topic, or its end."""
    found: dict[str, bool] = {}
    options = {"group.id": settings.add_prefix(BULK_READERS), "enable.auto.commit": False, "enable.partition.eof": True}
    consumer = Consumer({**settings.librdkafka(), **options}, logger=SILENT)
    try:
        seen = [topic.name for topic in CATALOGUE if _is_seen(consumer, settings.add_prefix(topic.name))]
        # Of what it may not even see, librdkafka says nothing later on.
        found |= {topic.name: False for topic in CATALOGUE if topic.name not in seen}
        consumer.assign([TopicPartition(settings.add_prefix(name), 0, 0) for name in seen])
        for _ in range(PATIENCE_S * 10):
            if len(found) == len(CATALOGUE):
                break
            message = consumer.poll(0.1)
            if message is None or (message.error() and message.topic() is None):
                continue
            name = message.topic().removeprefix(f"{settings.topic_prefix}.")
            is_end = message.error() is not None and message.error().code() == KafkaError._PARTITION_EOF
            found[name] = is_end or _is_yes(message.error())
    finally:
        consumer.close()
    return _require_all(found)


def _is_seen(consumer: Consumer, name: str) -> bool:
    return _is_yes(consumer.list_topics(name, timeout=PATIENCE_S).topics[name].error)


def _delete(settings: KafkaSettings) -> dict[str, bool]:
    """All records before the first: nothing is lost."""
    with closing(KafkaAdminClient(**settings.client())) as admin:
        at = {topic.name: BrokerPartition(settings.add_prefix(topic.name), 0) for topic in CATALOGUE}
        # The leader is named, or the library would look for one, and find none of a topic that it may not see.
        ask = partial(admin.delete_records, partition_leader_id=BROKER)
        return {name: _is_let(partial(ask, {place: 0})) for name, place in at.items()}


def _configure(settings: KafkaSettings) -> dict[str, bool]:
    """Another retention, which would not be set even where it were allowed."""
    with closing(KafkaAdminClient(**settings.client())) as admin:

        def change(name: str) -> None:
            resource = ConfigResource(ConfigResourceType.TOPIC, settings.add_prefix(name), {"retention.ms": "1000"})
            # Without its own check, which asks for the settings that are there, and fails where nobody may see them.
            told = admin.alter_configs([resource], validate_only=True, raise_on_unknown=False)
            _raise_refusal(told)

        return {topic.name: _is_let(partial(change, topic.name)) for topic in CATALOGUE}


def _raise_refusal(told: Mapping[str, Mapping[str, str]]) -> None:
    """The library raises what every other call answers, and gives these as text."""
    for answer in (answer for found in told.values() for answer in found.values() if answer != "OK"):
        if "AuthorizationFailed" not in answer:
            raise Unclear(answer)
        raise errors.TopicAuthorizationFailedError(answer)


def _create(settings: KafkaSettings) -> bool:
    with closing(KafkaAdminClient(**settings.client())) as admin:
        new = {settings.add_prefix("anything"): {"num_partitions": 1, "replication_factor": 1}}
        return _is_let(lambda: admin.create_topics(new, validate_only=True))


def _join(settings: KafkaSettings, group: str) -> bool:
    """Commit an offset in that group, which takes the same right as to join it."""
    with closing(KafkaAdminClient(**settings.client())) as admin:
        at = BrokerPartition(settings.add_prefix(TASKS.name), 0)
        answer = list[Any]()
        is_let = _is_let(
            lambda: answer.append(
                admin.alter_group_offsets(settings.add_prefix(group), {at: OffsetAndMetadata(0, "", -1)})
            )
        )
    return is_let and not any(issubclass(error, errors.GroupAuthorizationFailedError) for error in answer[0].values())


def _start(settings: KafkaSettings, writer: str) -> bool:
    """Take a transactional id, as the writer of a journal does."""
    options = {"transactional.id": settings.add_prefix(writer), "transaction.timeout.ms": 10_000}
    producer = Producer({**settings.librdkafka(), **options}, logger=SILENT)
    try:
        producer.init_transactions(PATIENCE_S)
    except KafkaException as error:
        return _is_yes(error.args[0])
    return True


def _is_yes(error: KafkaError | None) -> bool:
    if error is None:
        return True
    if error.code() in REFUSALS:
        return False
    raise Unclear(error.str())


def _is_let(ask: Callable[[], object]) -> bool:
    """Whether the broker does not refuse."""
    with suppress(errors.AuthorizationError, LogRefused):
        ask()
        return True
    return False


def _require_all(found: dict[str, bool]) -> dict[str, bool]:
    if len(found) < len(CATALOGUE):
        raise Unclear(f"nothing was said of {sorted({topic.name for topic in CATALOGUE} - found.keys())}")
    return found
