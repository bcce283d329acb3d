"""What a cluster allows beside what the table says: each right too few and too many, as Kafka's authorizer decides.

Pure. A rule is read as `StandardAuthorizer` reads it: names and prefixes, `*` for all, operations that imply others,
and denials that win.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from ops.doors.rights import RIGHTS, Quota, find_rights, list_grants, list_principals, list_resources
from streams.kafka.access import Brokers, Grant

ANYBODY = "*"
# Whoever may do one of these may also do what they stand behind; a denial implies nothing.
_IMPLIED = {
    "DESCRIBE": {"READ", "WRITE", "DELETE", "ALTER"},
    "DESCRIBE_CONFIGS": {"ALTER_CONFIGS"},
}
# Kafka's name of each quota.
QUOTAS = {
    "produce_bytes_s": "producer_byte_rate",
    "fetch_bytes_s": "consumer_byte_rate",
    "request_percent": "request_percentage",
}
MISSING, EXCESS, DENIED, UNBOUND = "missing", "excess", "denied", "unbound"
QUOTA_MISSING, QUOTA_DIFFERS, QUOTA_EXCESS = "quota_missing", "quota_differs", "quota_excess"


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference: its kind, whom it is about, what is so, and what to do."""

    kind: str
    principal: str
    what: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a cluster should allow: topics with this prefix, populations with a principal, quotas other than usual."""

    prefix: str
    populations: Collection[str] = ()
    quotas: Mapping[str, Quota] = field(default_factory=dict)

    def list_grants(self) -> list[Grant]:
        """Every right of every principal."""
        names = list_principals(self.populations)
        return [grant for name in names for grant in list_grants(name, prefix=self.prefix)]

    def list_quotas(self) -> dict[str, dict[str, float | None]]:
        """The quotas of every principal, under Kafka's names; None: there shall be none."""
        return {name: self._find_quota(name) for name in list_principals(self.populations)}

    def _find_quota(self, principal: str) -> dict[str, float | None]:
        rights = find_rights(principal)
        assert rights is not None
        own = self.quotas.get(principal, rights.quota)
        return {kafka: getattr(own, ours) for ours, kafka in QUOTAS.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a cluster says: its rules, the quotas of its users under Kafka's names, and whom no rule binds."""

    rules: Collection[Grant]
    quotas: Mapping[str, Mapping[str, float]]
    brokers: Brokers


def find_differences(wanted: Wanted, found: Found) -> Iterator[Finding]:
    """All of them, the rights that are missing first; nothing where table and cluster agree."""
    grants = wanted.list_grants()
    yield from find_missing(grants, found.rules)
    excess = find_excess(wanted, found.rules)
    yield from (_describe_excess(rule) for rule in excess)
    yield from _find_unbound(wanted, found.brokers)
    yield from _find_quotas(wanted, found.quotas)


def find_missing(grants: Iterable[Grant], rules: Collection[Grant]) -> Iterator[Finding]:
    """Of these rights those that the rules do not give, or take away."""
    by_principal = _group(rules)
    for grant in grants:
        theirs = [*by_principal.get(grant.principal, ()), *by_principal.get(ANYBODY, ())]
        what = f"{grant.operation} on {describe_resource(grant)}"
        if not any(covers(rule, grant) for rule in theirs if not rule.is_denial):
            yield Finding(MISSING, grant.principal, f"has no {what}", "`fedlog acl apply` grants it.")
        for denial in (rule for rule in theirs if rule.is_denial and _hits(rule, grant)):
            yield Finding(
                DENIED, grant.principal, f"is denied {what}", f"Remove the denial: {write_command(denial, 'remove')}"
            )


def find_excess(wanted: Wanted, rules: Iterable[Grant]) -> list[Grant]:
    """Rules that allow somebody more of this deployment than the table does."""
    grants, names = _group(wanted.list_grants()), list_resources(wanted.prefix)
    return sorted(
        rule
        for rule in rules
        if not rule.is_denial
        and _touches(rule, names, prefix=wanted.prefix)
        and not any(covers(grant, rule) for grant in grants.get(rule.principal, ()))
    )


def find_populations(rules: Iterable[Grant], *, prefix: str) -> set[str]:
    """The populations whose devices have a principal of their own among these rules."""
    names = list_resources(prefix)
    return {
        rule.principal.partition(".")[2]
        for rule in rules
        if rule.principal not in RIGHTS and find_rights(rule.principal) and _touches(rule, names, prefix=prefix)
    } - {""}


def covers(rule: Grant, grant: Grant) -> bool:
    """Whether whoever has `rule` may do all that `grant` is about."""
    return (
        rule.principal in (ANYBODY, grant.principal)
        and rule.kind == grant.kind
        and rule.host in ("*", grant.host)
        and rule.operation in (grant.operation, "ALL", *_IMPLIED.get(grant.operation, ()))
        and _covers_name(rule, grant)
    )


def _group(rules: Iterable[Grant]) -> dict[str, list[Grant]]:
    """Rules by their principal: thousands of them on a cluster that many share."""
    found: dict[str, list[Grant]] = {}
    for rule in rules:
        found.setdefault(rule.principal, []).append(rule)
    return found


def _covers_name(rule: Grant, grant: Grant) -> bool:
    if rule.is_prefix:
        return grant.name.startswith(rule.name)
    # A star is a name of its own, and no beginning of others; a right on a prefix takes more than a rule on one name.
    return (rule.name == "*") or (rule.name == grant.name and not grant.is_prefix)


def _hits(denial: Grant, grant: Grant) -> bool:
    """Whether a denial takes away any of what `grant` allows."""
    named = _covers_name(denial, grant) or _covers_name(grant, denial)
    # A denial of READ leaves DESCRIBE where another rule allows it: only the same operation, or ALL, is taken away.
    return denial.kind == grant.kind and denial.operation in (grant.operation, "ALL") and named


def _touches(rule: Grant, names: Collection[tuple[str, str]], *, prefix: str) -> bool:
    """Whether a rule is about anything of this deployment."""
    if rule.kind == "CLUSTER":
        # Others may own the cluster; of those in the table it says what they may do to all deployments.
        return find_rights(rule.principal) is not None
    if rule.name == "*" and not rule.is_prefix:
        return rule.kind in {kind for kind, _ in names}
    ours = [name for kind, name in names if kind == rule.kind]
    if rule.is_prefix:
        return any(name.startswith(rule.name) or rule.name.startswith(name) for name in ours if name)
    # Without a prefix nobody can say whose a name is that the table does not know.
    return rule.name in ours or (bool(prefix) and bool(ours) and rule.name.startswith(f"{prefix}."))


def _describe_excess(rule: Grant) -> Finding:
    # A stranger may be another team's: who takes the rule away has to know that it is not one of ours.
    who = " (anybody)" if rule.principal == ANYBODY else "" if find_rights(rule.principal) else " (not in the table)"
    remedy = f"`fedlog acl apply --revoke` removes it, or: {write_command(rule, 'remove')}"
    return Finding(EXCESS, rule.principal, f"has {rule.operation} on {describe_resource(rule)}{who}", remedy)


def _find_unbound(wanted: Wanted, brokers: Brokers) -> Iterator[Finding]:
    # Others are whoever keeps the cluster, and need be.
    for principal in sorted(brokers.super_users & {*list_principals(wanted.populations)}):
        remedy = "Take it out of super.users on every broker, and start them again one by one."
        yield Finding(UNBOUND, principal, "is a super user: no rule binds it", remedy)


def _find_quotas(wanted: Wanted, found: Mapping[str, Mapping[str, float]]) -> Iterator[Finding]:
    for principal, quotas in wanted.list_quotas().items():
        for name, value in quotas.items():
            actual = found.get(principal, {}).get(name)
            if value is None and actual is not None:
                what = f"is slowed down: {name} {actual:g}"
                yield Finding(
                    QUOTA_EXCESS, principal, what, "`fedlog acl apply` removes it: whoever trains waits for it."
                )
            elif value is not None and actual is None:
                yield Finding(QUOTA_MISSING, principal, f"has no {name}", f"`fedlog acl apply` sets it ({value:g}).")
            # Another value than usual is its owner's business, unless this one was asked for.
            elif value != actual and principal in wanted.quotas:
                remedy = f"`fedlog acl apply` with the same --quota makes it {value:g}."
                yield Finding(QUOTA_DIFFERS, principal, f"has {name} {actual:g}", remedy)


def describe_resource(grant: Grant) -> str:
    """A resource as people say it."""
    kind = grant.kind.lower().replace("_", " ")
    return f"{kind} {grant.name}{'…' if grant.is_prefix else ''}"


def write_command(grant: Grant, change: str = "add") -> str:
    """The words after `kafka-acls.sh --bootstrap-server …` that add or remove a rule."""
    who = grant.principal if ":" in grant.principal else f"User:{grant.principal}"
    option = grant.kind.lower().replace("_", "-")
    named = f"--{option}" if grant.kind == "CLUSTER" else f"--{option} '{grant.name}'"
    pattern = " --resource-pattern-type prefixed" if grant.is_prefix else ""
    may = "deny" if grant.is_denial else "allow"
    host = "" if grant.host == "*" else f" --{may}-host {grant.host}"
    operation = "".join(word.capitalize() for word in grant.operation.split("_"))
    return f"--{change} --{may}-principal '{who}'{host} --operation {operation} {named}{pattern}"
