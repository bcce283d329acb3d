"""Whether each role has the rights of its row in `ops.doors.rights`, and whether anybody else has one on our topics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator

from ops.doctor.facts import Facts, Limits
from ops.doctor.findings import Finding, Severity
from ops.doors.comparing import Wanted, covers, find_excess, find_missing, find_populations
from ops.doors.rights import RIGHTS, list_grants
from streams.kafka.access import Grant

FAMILY = "rights"


def check(facts: Facts, limits: Limits) -> Iterator[Finding]:
    """Yield roles that lack rights, strangers that have some, and a cluster that allows everybody everything."""
    if facts.cluster is None or FAMILY in facts.cluster.denied:
        return
    if facts.cluster.rules is None:
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
    yield from _compare(facts, facts.cluster.rules)


def _compare(facts: Facts, rules: Collection[Grant]) -> Iterator[Finding]:
    wanted = Wanted(prefix=facts.prefix, populations=find_populations(rules, prefix=facts.prefix))
    for role in RIGHTS:
        grants = [*list_grants(role, prefix=facts.prefix)]
        lacks = [*find_missing(grants, rules)]
        # A role of which the brokers know nothing does not run here, or under another principal.
        if lacks and any(covers(rule, grant) for rule in rules for grant in grants if rule.principal == role):
            first, more = lacks[0], len(lacks) - 1
            yield Finding(
                check=FAMILY,
                severity=Severity.ERROR,
                subject=f"User:{role}",
                what=first.what + (f", and {more} more are wrong" if more else ""),
                remedy=first.remedy,
            )
    # Rights on other topics of the cluster are its owner's business.
    for principal, count in sorted(Counter(rule.principal for rule in find_excess(wanted, rules)).items()):
        yield Finding(
            check=FAMILY,
            severity=Severity.WARNING,
            subject=f"User:{principal}",
            what=f"has {count} rights on our topics that no role needs",
            remedy="fedlog acl check names them; find out who that is, and take them away",
        )
