"""Whether each role has the rights of its row in `ops.doors.rights`, and whether anybody else has one on our topics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from ops.doctor.facts import Facts, Limits
from ops.doctor.findings import Finding, Severity
from ops.doors.rights import RIGHTS, list_grants

FAMILY = "rights"


def check(facts: Facts, limits: Limits) -> Iterator[Finding]:
    """Yield roles that lack rights, strangers that have some, and a cluster that allows everybody everything."""
    if facts.cluster is None or FAMILY in facts.cluster.denied:
        return
    if facts.cluster.grants is None:
        # Nobody else reaches the embedded broker, and its password is its only right.
        if not facts.is_loopback:
            yield Finding(
                check=FAMILY,
                severity=Severity.WARNING,
                subject=facts.servers,
                what="the brokers have no authorizer: whoever reaches them may read, write and delete everything",
                remedy="set authorizer.class.name on the brokers, then `fedlog acl apply`",
            )
        return
    yield from _compare(facts, facts.cluster.grants)


def _compare(facts: Facts, grants: frozenset[tuple[str, str, str, str]]) -> Iterator[Finding]:
    known: set[tuple[str, str, str, str]] = set()
    for role in RIGHTS:
        wanted = {(g.principal, g.kind, g.name, g.operation) for g in list_grants(role, prefix=facts.prefix)}
        known |= wanted
        missing = sorted(wanted - grants)
        # A role of which the brokers know nothing does not run here, or under another principal.
        if missing and missing != sorted(wanted):
            _, kind, name, operation = missing[0]
            yield Finding(
                check=FAMILY,
                severity=Severity.ERROR,
                subject=f"User:{role}",
                what=f"lacks {len(missing)} of its rights, as {operation} on {kind} {name}",
                remedy="fedlog acl apply",
            )
    ours = {name for _, _, name, _ in known}
    # Rights on other topics of the cluster are its owner's business.
    others = Counter(principal for principal, kind, name, operation in grants - known if name in ours)
    for principal, count in sorted(others.items()):
        yield Finding(
            check=FAMILY,
            severity=Severity.WARNING,
            subject=f"User:{principal}",
            what=f"has {count} rights on our topics that no role needs",
            remedy="find out who that is, and take them away (`kafka-acls.sh --remove`)",
        )
