"""What a cluster allows beside the table: whatever is taken away or added is found, and nothing else is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.doors.comparing import (
    DENIED,
    EXCESS,
    MISSING,
    QUOTA_DIFFERS,
    QUOTA_EXCESS,
    QUOTA_MISSING,
    QUOTAS,
    UNBOUND,
    Finding,
    Found,
    Wanted,
    covers,
    find_differences,
    find_excess,
    find_populations,
    write_command,
)
from ops.doors.rights import RIGHTS, Quota
from schemas.topics import CATALOGUE
from streams.kafka.access import Brokers, Grant

HERE = Wanted(prefix="here", populations=["hospitals"])
GRANTS = HERE.list_grants()
LIMITS = {who: {k: v for k, v in limits.items() if v is not None} for who, limits in HERE.list_quotas().items()}
BOUND = Brokers("org.apache.kafka.metadata.authorizer.StandardAuthorizer", frozenset({"admin"}))
OPERATIONS = ("READ", "WRITE", "DELETE", "ALTER", "DESCRIBE", "DESCRIBE_CONFIGS", "ALTER_CONFIGS", "CREATE", "ALL")


def compare(rules: Iterable[Grant], *, wanted: Wanted = HERE, **others: object) -> list[Finding]:
    """The differences of a cluster that has these rules, and all else as it should be."""
    found = Found(rules=[*rules], quotas=others.get("quotas", LIMITS), brokers=others.get("brokers", BOUND))  # type: ignore[arg-type]
    return [*find_differences(wanted, found)]


def in_words(findings: Iterable[Finding]) -> set[tuple[str, str]]:
    return {(one.kind, one.principal) for one in findings}


@pytest.mark.parametrize("prefix", ["here", "", "a.b"])
def test_what_was_applied_is_in_order(prefix: str) -> None:
    """Guarantee: a cluster with the rights and quotas of the table has no finding, with populations and without."""
    for populations in ((), ("hospitals", "schools")):
        wanted = Wanted(prefix=prefix, populations=populations)
        assert compare(wanted.list_grants(), wanted=wanted, quotas=wanted.list_quotas()) == []


@given(gone=st.sets(st.sampled_from(GRANTS), min_size=1, max_size=5))
def test_each_right_that_is_gone_is_missed(gone: set[Grant]) -> None:
    """Guarantee: every right is needed by somebody, and its loss is named; only what another right implies stays."""
    left = [grant for grant in GRANTS if grant not in gone]
    lost = [grant for grant in gone if not any(covers(rule, grant) for rule in left if rule.kind == grant.kind)]
    findings = compare(left)
    assert len(findings) == len(lost)
    assert in_words(findings) == {(MISSING, grant.principal) for grant in lost}


rules = st.builds(
    Grant,
    principal=st.sampled_from([*RIGHTS, "devices.hospitals", "stranger", "*"]),
    kind=st.just("TOPIC"),
    name=st.sampled_from([f"here.{topic.name}" for topic in CATALOGUE]),
    operation=st.sampled_from(OPERATIONS),
)


@given(added=rules)
def test_each_right_too_many_is_found(added: Grant) -> None:
    """Guarantee: a rule that lets anybody do more with a topic than the table is named, and no other."""
    is_within = any(covers(grant, added) for grant in GRANTS)
    expected = [] if is_within else [(EXCESS, added.principal)]
    findings = compare([*GRANTS, added])
    assert [(one.kind, one.principal) for one in findings] == expected
    assert find_excess(HERE, [*GRANTS, added]) == ([] if is_within else [added])
    assert all(write_command(added, "remove") in one.remedy for one in findings)


WIDE = {
    "all topics": Grant("gateway", "TOPIC", "*", "READ"),
    "a prefix": Grant("gateway", "TOPIC", "here.", "READ", is_prefix=True),
    "a shorter prefix": Grant("gateway", "TOPIC", "h", "WRITE", is_prefix=True),
    "every prefix": Grant("devices.hospitals", "TOPIC", "", "READ", is_prefix=True),
    "all operations": Grant("selector", "TOPIC", "here.checkins", "ALL"),
    "another's writer": Grant("devices", "TRANSACTIONAL_ID", "here.aggregator.0", "WRITE"),
    "all writers": Grant("selector", "TRANSACTIONAL_ID", "*", "WRITE"),
    "a prefix of all writers": Grant("selector", "TRANSACTIONAL_ID", "here.", "WRITE", is_prefix=True),
    "another's group": Grant("devices", "GROUP", "here.selector", "READ"),
    "the cluster": Grant("devices", "CLUSTER", "kafka-cluster", "ALTER"),
    "anybody": Grant("*", "TOPIC", "here.updates", "READ"),
    "no user": Grant("Group:staff", "TOPIC", "here.updates", "READ"),
}


@pytest.mark.parametrize("case", WIDE)
def test_a_wide_rule_is_too_much(case: str) -> None:
    """Guarantee: stars, prefixes, ALL, and what is another's: each is one finding, and one rule to revoke."""
    rule = WIDE[case]
    assert [(one.kind, one.principal) for one in compare([*GRANTS, rule])] == [(EXCESS, rule.principal)]
    assert find_excess(HERE, [rule]) == [rule]


NARROW = {
    "another deployment": Grant("gateway", "TOPIC", "there.rounds", "READ"),
    "another deployment with a like name": Grant("gateway", "TOPIC", "hereafter.rounds", "ALL"),
    "another's prefix": Grant("stranger", "TOPIC", "there.", "ALL", is_prefix=True),
    "an owner of the cluster": Grant("stranger", "CLUSTER", "kafka-cluster", "ALTER"),
    "the same from one host": Grant("gateway", "TOPIC", "here.updates", "WRITE", host="10.0.0.7"),
    "what a right implies": Grant("gateway", "TOPIC", "here.updates", "DESCRIBE"),
    "one writer of its own": Grant("selector", "TRANSACTIONAL_ID", "here.selector.3", "WRITE"),
}


@pytest.mark.parametrize("case", NARROW)
def test_what_is_no_more_than_the_table_is_let_alone(case: str) -> None:
    """Guarantee: other deployments' rules are theirs, and a rule within the table is no finding."""
    assert compare([*GRANTS, NARROW[case]]) == []


@pytest.mark.parametrize(
    "denial",
    [
        Grant("gateway", "TOPIC", "here.updates", "WRITE", is_denial=True),
        Grant("*", "TOPIC", "here.updates", "ALL", is_denial=True),
        Grant("gateway", "TOPIC", "*", "WRITE", host="10.0.0.7", is_denial=True),
        Grant("gateway", "TOPIC", "he", "WRITE", is_prefix=True, is_denial=True),
    ],
)
def test_a_denial_that_takes_a_right_away_is_found(denial: Grant) -> None:
    """Guarantee: a right that a denial overrides is named as such, with the denial to remove."""
    findings = compare([*GRANTS, denial])
    assert (DENIED, "gateway") in in_words(findings)
    assert {one.kind for one in findings} == {DENIED}
    assert all(write_command(denial, "remove") in one.remedy for one in findings)
    assert compare([*GRANTS, replace(denial, operation="CREATE")]) == []


def test_a_rule_for_one_host_is_not_enough() -> None:
    """Guarantee: a role may come from any machine, so that a right from one of them alone is missing."""
    narrow = [replace(grant, host="10.0.0.7") if grant.principal == "shard" else grant for grant in GRANTS]
    assert in_words(compare(narrow)) == {(MISSING, "shard")}


def test_a_super_user_of_the_table_is_found() -> None:
    """Guarantee: a table that does not bind one of its principals says so."""
    brokers = replace(BOUND, super_users=frozenset({"admin", "devices.hospitals"}))
    assert in_words(compare(GRANTS, brokers=brokers)) == {(UNBOUND, "devices.hospitals")}


def test_quotas_are_compared_by_their_presence_and_by_what_was_asked() -> None:
    """Guarantee: strangers have a quota, actors none; its value is the owner's, unless one was asked for."""
    chosen = {**LIMITS, "devices": dict.fromkeys(QUOTAS.values(), 7.0)}
    assert compare(GRANTS, quotas=chosen) == []
    wanted = replace(HERE, quotas={"devices": Quota(produce_bytes_s=9, fetch_bytes_s=7)})
    findings = compare(GRANTS, wanted=wanted, quotas=chosen)
    assert [(one.kind, one.principal) for one in findings] == [(QUOTA_DIFFERS, "devices"), (QUOTA_EXCESS, "devices")]
    bare = {who: limits for who, limits in LIMITS.items() if who != "devices.hospitals"}
    assert in_words(compare(GRANTS, quotas=bare)) == {(QUOTA_MISSING, "devices.hospitals")}
    slowed = {**LIMITS, "aggregator": {"consumer_byte_rate": 1e6}}
    assert in_words(compare(GRANTS, quotas=slowed)) == {(QUOTA_EXCESS, "aggregator")}


def test_populations_are_known_by_their_rules() -> None:
    """Guarantee: a population that somebody has applied is checked whoever asks, and another deployment's is not."""
    there = Wanted(prefix="there", populations=["schools"]).list_grants()
    assert find_populations([*GRANTS, *there], prefix="here") == {"hospitals"}
    assert find_populations([Grant("devices.", "TOPIC", "here.tasks", "READ")], prefix="here") == set()


def test_commands_are_what_kafka_s_own_tool_takes() -> None:
    """Golden words, as `kafka-acls.sh --help` has them: for whoever keeps the cluster in another team."""
    prefixed = Grant("selector", "TRANSACTIONAL_ID", "here.selector.", "WRITE", is_prefix=True)
    assert write_command(prefixed) == (
        "--add --allow-principal 'User:selector' --operation Write --transactional-id 'here.selector.' "
        "--resource-pattern-type prefixed"
    )
    cluster = Grant("shard", "CLUSTER", "kafka-cluster", "DESCRIBE_CONFIGS")
    assert write_command(cluster) == "--add --allow-principal 'User:shard' --operation DescribeConfigs --cluster"
    denial = Grant("*", "GROUP", "x", "READ", host="10.0.0.7", is_denial=True)
    assert write_command(denial, "remove") == (
        "--remove --deny-principal 'User:*' --deny-host 10.0.0.7 --operation Read --group 'x'"
    )
