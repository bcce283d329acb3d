"""Whether each role has the rights of its row in `ops.doors.rights`, and whether anybody else has one on our topics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from ops.doctor.facts import Facts, Limits
from ops.doctor.findings import Finding, Severity
from ops.doors.rights import RIGHTS, find_rights, list_grants, list_resources

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
    for role in RIGHTS:
        wanted, held = _list_wanted(role, facts), {grant for grant in grants if grant[0] == role}
        missing = sorted(wanted - held)
        # A role of which the brokers know nothing does not run here, or under another principal.
        if missing and held & wanted:
            _, kind, name, operation = missing[0]
            yield Finding(
                check=FAMILY,
                severity=Severity.ERROR,
                subject=f"User:{role}",
                what=f"lacks {len(missing)} of its rights, as {operation} on {kind} {name}",
                remedy="fedlog acl apply",
            )
    # Rights on other topics of the cluster are its owner's business.
    ours = {name for _, name in list_resources(facts.prefix)}
    principals = {principal for principal, _, name, _ in grants if name in ours}
    known = {grant for principal in principals for grant in _list_wanted(principal, facts)}
    others = Counter(principal for principal, _, name, _ in grants - known if name in ours)
    for principal, count in sorted(others.items()):
        yield Finding(
            check=FAMILY,
            severity=Severity.WARNING,
            subject=f"User:{principal}",
            what=f"has {count} rights on our topics that no role needs",
            remedy="fedlog acl check names them; find out who that is, and take them away",
        )


def _list_wanted(principal: str, facts: Facts) -> set[tuple[str, str, str, str]]:
    # Devices of a population have a principal of their own, and strangers have no rights.
    if find_rights(principal) is None:
        return set()
    return {
        (each.principal, each.kind, each.name, each.operation) for each in list_grants(principal, prefix=facts.prefix)
    }
