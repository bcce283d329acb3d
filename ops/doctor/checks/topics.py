"""Whether topics and brokers have the settings that the laws of the log rest on."""

from __future__ import annotations

from collections.abc import Iterator

from ops.doctor.facts import Facts, Limits
from ops.doctor.findings import Finding, Severity
from schemas.topics import CATALOGUE, TRANSACTION_TIMEOUT_MAX_MS
from streams.topics import TRANSACTION_TIMEOUT, find_problems

FAMILY = "topics"


def check(facts: Facts, limits: Limits) -> Iterator[Finding]:
    """Yield each topic that is missing or set up wrongly, and each broker with a wrong setting."""
    if facts.cluster is None:
        return
    partitions, hidden = facts.cluster.partitions, []
    for topic in CATALOGUE:
        found = facts.cluster.topics.get(topic.name)
        # Every topic has settings: without any they are kept from whoever asks.
        is_hidden = found is not None and not found.described.config
        hidden += [facts.add_prefix(topic.name)] if is_hidden else []
        for problem in find_problems(topic, None if found is None else found.described, partitions=partitions):
            if not is_hidden or problem.startswith("partitions"):
                yield _find(facts.add_prefix(topic.name), problem, is_missing=found is None)
    if hidden:
        yield Finding(
            check=FAMILY,
            severity=Severity.NOTE,
            subject=hidden[0] if len(hidden) == 1 else f"{len(hidden)} topics",
            what="their settings are not told to this principal, and were not looked at",
            remedy="look as a super user, or as a principal that may describe configurations",
        )
    for broker in facts.cluster.brokers:
        # A broker that does not tell is noted with what else was refused.
        timeout_ms = broker.config.get(TRANSACTION_TIMEOUT)
        if timeout_ms is not None and int(timeout_ms) > TRANSACTION_TIMEOUT_MAX_MS:
            yield Finding(
                check=FAMILY,
                severity=Severity.ERROR,
                subject=f"broker {broker.id}",
                what=f"{TRANSACTION_TIMEOUT} is {timeout_ms}: anybody may hold readers back for so long",
                remedy=f"set it to at most {TRANSACTION_TIMEOUT_MAX_MS} in the broker's configuration, and restart it",
            )


def _find(subject: str, problem: str, *, is_missing: bool) -> Finding:
    setting, _, rest = problem.partition(" is ")
    wanted = rest.partition("wanted ")[2]
    # The number of partitions says where a task lives, so that no command can change it afterwards.
    if is_missing:
        remedy = "fedlog topics create"
    elif setting == "partitions":
        remedy = "topics with another number cannot be repaired: choose another --topic-prefix, and create all anew"
    else:
        remedy = (
            f"kafka-configs.sh --alter --entity-type topics --entity-name {subject} --add-config {setting}={wanted}"
        )
    return Finding(check=FAMILY, severity=Severity.ERROR, subject=subject, what=problem, remedy=remedy)
