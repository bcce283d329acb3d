"""Whether the brokers answer, which release they are, and whether each partition has all its copies."""

from __future__ import annotations

from collections.abc import Iterator

from ops.doctor.facts import Facts, Limits
from ops.doctor.findings import Finding, Severity
from streams.kafka.settings import BROKER_RELEASE_MIN

FAMILY = "broker"


def check(facts: Facts, limits: Limits) -> Iterator[Finding]:
    """Yield what is wrong with the brokers."""
    if facts.cluster is None:
        yield Finding(
            check=FAMILY,
            severity=Severity.ERROR,
            subject=facts.servers or "Kafka",
            what=f"no broker answers: {facts.unreachable}",
            remedy="look whether it runs (`fedlog broker status`, or the brokers' own logs), then at "
            "--bootstrap-servers, the network, certificates and password",
        )
        return
    for family, why in facts.cluster.denied.items():
        yield Finding(
            check=family,
            severity=Severity.NOTE,
            subject=family,
            what=f"could not be looked at: {why}",
            remedy="run this as a super user of the brokers, or look there",
        )
    for broker in facts.cluster.brokers:
        if broker.release and broker.release < BROKER_RELEASE_MIN:
            yield Finding(
                check=FAMILY,
                severity=Severity.ERROR,
                subject=f"broker {broker.id}",
                what=f"is of release {'.'.join(map(str, broker.release))}",
                remedy=f"fedlog needs Kafka {'.'.join(map(str, BROKER_RELEASE_MIN))} or newer: upgrade the broker",
            )
    for name, topic in facts.cluster.topics.items():
        if topic.leaderless:
            yield Finding(
                check=FAMILY,
                severity=Severity.ERROR,
                subject=facts.add_prefix(name),
                what=f"{topic.leaderless} of {topic.partitions} partitions have no leader: nobody reads or writes",
                remedy="start the brokers that hold them; unclean leader election would lose history",
            )
        # One without a leader lacks its copies too, and two findings for it would hide others.
        elif topic.under_replicated:
            yield Finding(
                check=FAMILY,
                severity=Severity.WARNING,
                subject=facts.add_prefix(name),
                what=f"{topic.under_replicated} of {topic.partitions} partitions lack a copy",
                remedy="start the broker that is missing, and wait until it has caught up",
            )
