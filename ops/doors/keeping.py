"""Applies the table of rights to a cluster, and proves it: what `fedlog acl` does. Needs a super user."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass

from ops.doors.comparing import Finding, Found, Wanted, find_differences, find_excess, find_populations
from ops.doors.rights import list_principals
from schemas.topics import CATALOGUE
from streams.kafka import access
from streams.kafka.log import KafkaLog
from streams.kafka.settings import KafkaSettings


@dataclass(frozen=True, slots=True)
class Applied:
    """How much was granted, revoked, limited, and how many passwords were set."""

    granted: int
    revoked: int
    limited: int
    passwords: int


def apply(
    kafka: KafkaSettings, wanted: Wanted, *, passwords: Mapping[str, str] | None = None, revokes: bool = False
) -> Applied:
    """Grant what the table says, and with `revokes` remove what it does not say; quotas alike.

    Raises LogUnavailable, LogRefused, NoAuthorizer.
    """
    # First, so that a file that the brokers refuse leaves no rights behind for principals that nobody can be.
    if passwords:
        access.set_passwords(kafka, passwords)
    grants, excess = wanted.list_grants(), []
    access.grant(kafka, grants)
    # After the grants: a wider rule that goes may be all that somebody works by.
    if revokes:
        excess = find_excess(wanted, access.list_rules(kafka))
        access.revoke(kafka, excess)
    changes = _find_changes(wanted, access.read_quotas(kafka))
    access.set_quotas(kafka, changes)
    return Applied(len(grants), len(excess), len(changes), len(passwords or {}))


def check(kafka: KafkaSettings, wanted: Wanted) -> tuple[list[str], list[Finding]]:
    """The principals, with those of populations that the cluster knows, and each difference from the table.

    Raises LogUnavailable, LogRefused, NoAuthorizer.
    """
    rules = access.list_rules(kafka)
    # They stand in no table, and whoever checks need not know how many there are.
    known = find_populations(rules, prefix=wanted.prefix)
    wanted = Wanted(prefix=wanted.prefix, populations=sorted({*wanted.populations, *known}), quotas=wanted.quotas)
    found = Found(rules=rules, quotas=access.read_quotas(kafka), brokers=access.describe_brokers(kafka))
    return list_principals(wanted.populations), [*find_differences(wanted, found)]


def open_doors(kafka: KafkaSettings, *, partitions: int | None = None, passwords: Mapping[str, str]) -> None:
    """Make a new broker ready: topics, rights, quotas, and passwords for whom it did not know when it was formatted.

    Raises as `apply` does.
    """
    with closing(KafkaLog(kafka)) as log:
        log.create_topics(CATALOGUE, partitions=partitions)
    # Of a release that had fewer principals.
    known = access.list_logins(kafka)
    unknown = {name: password for name, password in passwords.items() if name not in known}
    apply(kafka, Wanted(prefix=kafka.topic_prefix), passwords=unknown)


def _find_changes(wanted: Wanted, found: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float | None]]:
    changes: dict[str, dict[str, float | None]] = {}
    for principal, quotas in wanted.list_quotas().items():
        actual = found.get(principal, {})
        # One that is there stays, unless this one was asked for: its owner may have chosen it.
        for name, value in quotas.items():
            is_told = principal in wanted.quotas or name not in actual or value is None
            if is_told and value != actual.get(name):
                changes.setdefault(principal, {})[name] = value
    return changes
