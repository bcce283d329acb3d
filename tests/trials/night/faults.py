"""The six faults of a night: how each is planted in a running deployment, who has to notice, and what ends it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime

from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import ConfigResource, ConfigResourceType

from ops.doors.authority import CertificateAuthority
from schemas.topics import CHECKINS, UPDATES, partition_of
from streams.log import TopicPartition
from tests.worlds.deployment.forgotten import WRITER, forget_transaction
from tests.worlds.deployment.product import OPEN, Product

AHEAD_S = 90
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
Labels = dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """`check` is the family of the finding, `remedy` what it has to advise, `alerts` labels of which one has to fire.

    `mend` does what the remedy says.
    """

    name: str
    plant: Callable[[], None]
    mend: Callable[[], None]
    check: str
    remedy: str
    alerts: tuple[Labels, ...]


def list_faults(product: Product) -> list[Fault]:
    """All of them; the clock comes last, because log time never goes back."""
    faults = [_freeze_worker(product), _set_topic(product), _end_certificate(product), _freeze_history(product)]
    return [*faults, _hang(product), _set_clock(product)]


def _freeze_worker(product: Product) -> Fault:
    frozen: list[int] = []

    def plant() -> None:
        frozen.append(product.find_pid("aggregator"))
        os.kill(frozen[-1], signal.SIGSTOP)

    return Fault(
        name="worker frozen",
        plant=plant,
        # It goes on, sees that its group has moved on, and its supervisor starts another.
        mend=lambda: os.kill(frozen[-1], signal.SIGCONT),
        check="actors",
        remedy="fedlog worker aggregator",
        alerts=({"alertname": "FedlogWorkerGone", "part": "aggregator"}, _finding("actors")),
    )


def _hang(product: Product) -> Fault:
    at = TopicPartition(UPDATES.name, partition_of(OPEN, product.log.partitions))

    def plant() -> None:
        settings = product.settings
        with closing(settings.log("fedlog-stranger", will_append=True)) as log:
            forget_transaction(settings.kafka(), log, at=at)

    def mend() -> None:
        # What `kafka-transactions.sh abort` sends, by the client that has it.
        product.log.writer(WRITER, settles=[at])

    return Fault(
        name="hanging transaction",
        plant=plant,
        mend=mend,
        check="transactions",
        remedy="kafka-transactions.sh abort --topic",
        alerts=({"alertname": "FedlogReadersHeldBack"},),
    )


def _set_topic(product: Product) -> Fault:
    def alter(policy: str) -> None:
        _alter(product, "rounds", setting="cleanup.policy", value=policy)

    return Fault(
        name="wrong topic setting",
        plant=lambda: alter("compact"),
        mend=lambda: alter("delete"),
        check="topics",
        remedy="--entity-name fedlog.rounds --add-config cleanup.policy=delete",
        alerts=(_finding("topics"),),
    )


def _end_certificate(product: Product) -> Fault:
    def plant() -> None:
        CertificateAuthority(product.settings.folder / "ca").renew("gateway", days=90, now=LONG_AGO)

    return Fault(
        name="expired certificate",
        plant=plant,
        mend=lambda: product.ask("ca", "renew", "gateway"),
        check="certificates",
        remedy="fedlog ca renew gateway",
        alerts=(_finding("certificates"),),
    )


def _freeze_history(product: Product) -> Fault:
    return Fault(
        name="projection behind",
        plant=lambda: os.kill(product.find_pid("history"), signal.SIGSTOP),
        mend=lambda: os.kill(product.find_pid("history"), signal.SIGCONT),
        check="projections",
        remedy="start it again",
        alerts=(_finding("projections"),),
    )


def _set_clock(product: Product) -> Fault:
    """What a broker leaves behind whose clock was ahead for a moment: a record from this machine's future."""

    def plant() -> None:
        kafka, partition = product.settings.kafka(), partition_of(OPEN, product.log.partitions)
        # The only way to a time of one's own: brokers stamp these topics by their own clock.
        _alter(product, CHECKINS.name, setting="message.timestamp.type", value="CreateTime")
        with closing(KafkaProducer(**kafka.client())) as producer:
            ahead_ms = int((time.time() + AHEAD_S) * 1000)
            producer.send(kafka.add_prefix(CHECKINS.name), b"late", partition=partition, timestamp_ms=ahead_ms)
            producer.flush()
        _alter(product, CHECKINS.name, setting="message.timestamp.type", value="LogAppendTime")

    return Fault(
        name="clock ahead",
        plant=plant,
        # Until the right time has caught up there is nothing to mend.
        mend=lambda: None,
        check="clocks",
        remedy="chronyc tracking",
        alerts=(_finding("clocks"),),
    )


def _alter(product: Product, topic: str, *, setting: str, value: str) -> None:
    kafka = product.settings.kafka()
    with closing(KafkaAdminClient(**kafka.client())) as admin:
        resource = ConfigResource(ConfigResourceType.TOPIC, kafka.add_prefix(topic), {setting: value})
        admin.alter_configs([resource])


def _finding(check: str) -> Labels:
    return {"alertname": "FedlogFinding", "check": check}
