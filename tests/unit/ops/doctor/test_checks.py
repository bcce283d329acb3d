"""Each family of faults is found where it is planted, with what is to be done; a healthy deployment has none."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from actors.wiring import ROLES
from ops.doctor.checks import CHECKS, check_all
from ops.doctor.checks.actors import count_undecided
from ops.doctor.facts import (
    Cluster,
    Disk,
    Expiring,
    Facts,
    Limits,
    PrivateFile,
    Projection,
    SnapshotSeen,
    Tail,
)
from ops.doctor.findings import Finding, Severity, find_exit_code
from ops.doors.rights import RIGHTS, list_grants
from schemas.topics import CATALOGUE
from streams.kafka.access import Grant
from streams.kafka.survey import Broker, ClusterTopic, Group, LogDisk, OpenTransaction
from streams.log import TopicPartition
from streams.topics import TopicDescription

NOW_MS = 1_800_000_000_000
DAY_MS = 86_400_000
PLACES = [TopicPartition(topic.name, partition) for topic in CATALOGUE for partition in range(2)]
ROUNDS, UPDATES = TopicPartition("rounds", 0), TopicPartition("updates", 1)
TOPICS = {topic.name: ClusterTopic(described=TopicDescription(2, dict(topic.config))) for topic in CATALOGUE}
TOLD = ("tasks", "rounds", "updates")
ALL = dict.fromkeys(PLACES, 100)
RULES = frozenset(grant for role in RIGHTS for grant in list_grants(role, prefix="fedlog"))
IMPLIED = {
    rule for rule in RULES if rule.operation == "DESCRIBE" and dataclasses.replace(rule, operation="READ") in RULES
}
assert IMPLIED
ALIVE = Group(members=1, offsets=ALL)
GROUPS = dict.fromkeys(ROLES, ALIVE)
CLUSTER = Cluster(
    brokers=(Broker(id=1, release=(4, 0), config={"transaction.max.timeout.ms": "15000"}),),
    topics=TOPICS,
    ends=ALL,
    written=ALL,
    recent=ALL,
    recent_for_history=ALL,
    groups=GROUPS,
    rules=RULES,
    newest_ms=NOW_MS - 1000,
)
HEALTHY = Facts(
    now_ms=NOW_MS,
    servers="kafka:9092",
    is_loopback=False,
    cluster=CLUSTER,
    tails=(Tail(at=ROUNDS, position={"tasks": 100}),),
    disks=(Disk(place=".fedlog", size=100, left=50),),
    private_files=(PrivateFile(path=".fedlog/operator.key", mode=0o600),),
    expiring=(Expiring(what="selector.key", until_ms=NOW_MS + 300 * DAY_MS, renew="issue"),),
    projection=Projection(path=".fedlog/history.duckdb", topics=TOLD, marks=ALL, is_followed=True),
)


def put(cluster: dict[str, Any] | None = None, **changes: Any) -> Facts:
    """The healthy deployment with these differences."""
    within = {} if cluster is None else {"cluster": dataclasses.replace(CLUSTER, **cluster)}
    return dataclasses.replace(HEALTHY, **within, **changes)


def topic_with(**config: str) -> dict[str, ClusterTopic]:
    described = TOPICS["rounds"].described
    changed = TopicDescription(described.partitions, {**described.config, **config})
    return {**TOPICS, "rounds": ClusterTopic(described=changed)}


# As whoever may read topics, and not describe their settings, sees them.
SHUT = {name: ClusterTopic(described=TopicDescription(2, {})) for name in TOPICS}


def hang(age_s: float, at: TopicPartition = ROUNDS) -> Facts:
    opened = OpenTransaction(offset=97, last_ms=NOW_MS - int(age_s * 1000))
    return put({"ends": {**ALL, at: 97}, "open": {at: opened}})


def find_right(role: str) -> Grant:
    """Some right of a role that no other of its rights implies."""
    return min(rule for rule in RULES if (rule.principal, rule.kind, rule.operation) == (role, "TOPIC", "WRITE"))


AWAY = dataclasses.replace(HEALTHY, cluster=None, unreachable="refused")
SLOW = Group(members=1, offsets={**ALL, UPDATES: 60})
DEAD = Group(members=0, offsets=ALL)
EMPTY = {at: 0 for at in PLACES if at.topic in ("ledger", "registry", "rollouts")}
# What is planted; then its family, how bad it is, what the finding is about, and a word of the remedy.
PLANTED: dict[str, tuple[Facts, str, str, str, str]] = {
    "broker away": (AWAY, "broker", "error", "kafka:9092", "broker status"),
    "old broker": (put({"brokers": (Broker(id=1, release=(2, 7)),)}), "broker", "error", "broker 1", "upgrade"),
    "no leader": (
        put({"topics": {**TOPICS, "tasks": dataclasses.replace(TOPICS["tasks"], leaderless=1)}}),
        "broker",
        "error",
        "fedlog.tasks",
        "start the brokers",
    ),
    "copy missing": (
        put({"topics": {**TOPICS, "tasks": dataclasses.replace(TOPICS["tasks"], under_replicated=2)}}),
        "broker",
        "warning",
        "fedlog.tasks",
        "start the broker",
    ),
    "topic missing": (
        put({"topics": {name: topic for name, topic in TOPICS.items() if name != "models"}}),
        "topics",
        "error",
        "fedlog.models",
        "fedlog topics create",
    ),
    "settings not told": (put({"topics": SHUT}), "topics", "note", f"{len(SHUT)} topics", "super user"),
    "clean-up": (
        put({"topics": topic_with(**{"cleanup.policy": "compact"})}),
        "topics",
        "error",
        "fedlog.rounds",
        "--add-config cleanup.policy=delete",
    ),
    "long transactions": (
        put({"brokers": (Broker(id=2, release=(4, 0), config={"transaction.max.timeout.ms": "900000"}),)}),
        "topics",
        "error",
        "broker 2",
        "15000",
    ),
    "no authorizer": (put({"rules": None}), "rights", "warning", "kafka:9092", "acl apply"),
    "right missing": (put({"rules": RULES - {find_right("gateway")}}), "rights", "error", "User:gateway", "acl apply"),
    "right denied": (
        put({"rules": RULES | {dataclasses.replace(find_right("gateway"), is_denial=True)}}),
        "rights",
        "error",
        "User:gateway",
        "--remove --deny-principal",
    ),
    "right too many": (
        put({"rules": RULES | {Grant("mallory", "TOPIC", "fedlog.rounds", "WRITE")}}),
        "rights",
        "warning",
        "User:mallory",
        "acl check",
    ),
    "rights unseen": (put({"denied": {"rights": "not allowed"}}), "rights", "note", "rights", "super user"),
    "clock ahead": (put({"newest_ms": NOW_MS + 90_000}), "clocks", "error", "kafka:9092", "chronyc"),
    "disk full": (
        put({"brokers": (Broker(id=1, disks=(LogDisk(path="/data", size=100, left=2),)),)}),
        "disks",
        "error",
        "broker 1: /data",
        "room",
    ),
    "disk filling": (put(disks=(Disk(place="here", size=100, left=8),)), "disks", "warning", "here", "room"),
    "hanging": (hang(31), "transactions", "error", "rounds[0]", "worker aggregator"),
    "hanging beside": (hang(31, TopicPartition("published", 0)), "transactions", "error", "published[0]", "rollout"),
    "worker gone": (
        put({"groups": {**GROUPS, "selector": DEAD}}),
        "actors",
        "error",
        "worker selector",
        "fedlog worker selector",
    ),
    "nobody charges": (
        put(
            {"groups": {**GROUPS, "privacy": DEAD}, "ends": {**ALL, **EMPTY}}, tails=(Tail(at=ROUNDS, is_private=True),)
        ),
        "actors",
        "error",
        "worker privacy",
        "fedlog worker privacy",
    ),
    "worker stuck": (
        put({"groups": {**GROUPS, "aggregator": SLOW}}),
        "actors",
        "error",
        "worker aggregator",
        "still_waiting",
    ),
    "chain": (put(tails=(Tail(at=ROUNDS, fault="prev", offset=7),)), "chains", "error", "rounds[0]@7", "verify"),
    "defect": (put(tails=(Tail(at=ROUNDS, defects=2),)), "chains", "error", "rounds[0]", "fedlog events"),
    "stranger": (put(tails=(Tail(at=ROUNDS, strangers=1),)), "chains", "warning", "rounds[0]", "who may write"),
    "no snapshot": (
        put({"ends": {**ALL, ROUNDS: 60_000}, "written": {**ALL, ROUNDS: 60_000}}),
        "snapshots",
        "warning",
        "aggregator, partition 0",
        "snapshot_not_stored",
    ),
    "open key": (
        put(private_files=(PrivateFile(path="a.key", mode=0o644),)),
        "keys",
        "error",
        "a.key",
        "chmod 600 a.key",
    ),
    "open folder": (
        put(private_files=(PrivateFile(path=".fedlog", mode=0o755, is_folder=True),)),
        "keys",
        "error",
        ".fedlog",
        "chmod 700",
    ),
    "history stuck": (
        put(projection=Projection(path="h", topics=TOLD, marks={**ALL, UPDATES: 10}, is_followed=True)),
        "projections",
        "error",
        "h",
        "stuck",
    ),
    "history begun": (
        put(projection=Projection(path="h", topics=TOLD)),
        "projections",
        "warning",
        "h",
        "sync --follow",
    ),
    "history left": (
        put(projection=Projection(path="h", topics=TOLD, marks={**ALL, UPDATES: 10})),
        "projections",
        "warning",
        "h",
        "sync --follow",
    ),
    "history frozen": (
        put(projection=Projection(path="h", is_followed=True, unreadable="no answer within 5 s")),
        "projections",
        "error",
        "h",
        "start it again",
    ),
    "history unfit": (
        put(projection=Projection(path="h", unreadable="another release")),
        "projections",
        "error",
        "h",
        "rebuild",
    ),
    "certificate ended": (
        put(expiring=(Expiring(what="gateway.pem", until_ms=NOW_MS - 1, renew="fedlog ca renew gateway"),)),
        "certificates",
        "error",
        "gateway.pem",
        "ca renew gateway",
    ),
    "certificate ends": (
        put(expiring=(Expiring(what="gateway.pem", until_ms=NOW_MS + 3 * DAY_MS, renew="fedlog ca renew gateway"),)),
        "certificates",
        "warning",
        "gateway.pem",
        "ca renew gateway",
    ),
}


def test_a_healthy_deployment_has_no_findings() -> None:
    """Whatever is planted below, nothing of it is found where all is well."""
    assert check_all(HEALTHY) == []


@pytest.mark.parametrize("planted", PLANTED)
def test_a_planted_fault_is_found(planted: str) -> None:
    """One finding, of its family, about what is at fault, and with what to do."""
    facts, family, severity, subject, remedy = PLANTED[planted]
    [found] = check_all(facts)
    assert (found.check, found.severity, found.subject) == (family, severity, subject)
    assert remedy in found.remedy


def test_each_family_is_tried() -> None:
    """No family is without a planted fault."""
    assert {case[1] for case in PLANTED.values()} == {family.FAMILY for family in CHECKS}


QUIET = {
    "no worker for charges where nobody is private": put(
        {
            "groups": {**GROUPS, "privacy": DEAD, "registrar": DEAD, "rollout": Group(members=0)},
            "ends": {**ALL, **EMPTY},
        }
    ),
    "devices of a population": put({"rules": RULES | {*list_grants("devices.wards", prefix="fedlog")}}),
    "rights that another implies": put({"rules": RULES - IMPLIED}),
    "a transaction in time": hang(5),
    "no rights and nobody else": put({"rules": None}, is_loopback=True),
    "a role that does not run here": put({"rules": frozenset(rule for rule in RULES if rule.principal != "devices")}),
    "markers behind a journal": put(
        {"groups": {**GROUPS, "privacy": Group(members=1, offsets={**ALL, ROUNDS: 97})}},
    ),
    "a position further than its group": put(
        {"groups": {**GROUPS, "aggregator": Group(members=1)}},
        tails=tuple(
            Tail(at=TopicPartition("rounds", number), position=dict.fromkeys([topic.name for topic in CATALOGUE], 100))
            for number in range(2)
        ),
    ),
    "records that are young": put(
        {"groups": {**GROUPS, "aggregator": SLOW}, "recent": {**ALL, UPDATES: 60}},
    ),
    "no registrar before anybody enrols": put(
        {
            "groups": {**GROUPS, "registrar": DEAD},
            "ends": {**ALL, TopicPartition("registry", 0): 0, TopicPartition("registry", 1): 0},
        }
    ),
    "no task and no worker": put(
        {"groups": dict.fromkeys(GROUPS, DEAD), "ends": dict.fromkeys(PLACES, 0), "recent": dict.fromkeys(PLACES, 0)},
    ),
    "a long journal with a snapshot": put(
        {"ends": {**ALL, ROUNDS: 60_000}, "written": {**ALL, ROUNDS: 60_000}},
        snapshots=(SnapshotSeen(actor="aggregator", partition=0, offset=59_000),),
    ),
}


@pytest.mark.parametrize("case", QUIET)
def test_what_is_well_is_no_finding(case: str) -> None:
    """Nobody is woken for what ends by itself, or is meant so."""
    assert check_all(QUIET[case]) == []


def test_a_snapshot_of_another_release_is_none() -> None:
    """It cannot be gone on from: the restart reads everything."""
    facts = put(
        {"ends": {**ALL, ROUNDS: 60_000}, "written": {**ALL, ROUNDS: 60_000}},
        snapshots=(SnapshotSeen(actor="aggregator", partition=0, offset=59_000, is_of_this_code=False),),
    )
    [found] = check_all(facts)
    assert "another release" in found.what


def test_limits_are_the_callers() -> None:
    """Whoever wants to know sooner says so."""
    assert [found.check for found in check_all(hang(5), Limits(hanging_s=1))] == ["transactions"]


def test_the_worst_comes_first_and_decides_the_exit_code() -> None:
    """0 without a finding or with notes, 5 with warnings, 1 with an error among them."""
    findings = check_all(
        put(
            {"denied": {"rights": "no"}, "newest_ms": NOW_MS + 90_000},
            disks=(Disk(place="here", size=100, left=8),),
        )
    )
    assert [found.severity for found in findings] == [Severity.ERROR, Severity.WARNING, Severity.NOTE]
    note = Finding(check="rights", severity=Severity.NOTE, subject="", what="", remedy="")
    assert [find_exit_code(found) for found in ([], [note], findings[1:], findings)] == [0, 0, 5, 1]


def test_settings_that_are_not_told_are_no_errors() -> None:
    """Guarantee: a doctor with the rights of the operator wakes nobody for what it may not see."""
    assert [found.severity for found in check_all(put({"topics": SHUT}), Limits())] == [Severity.NOTE]
    other = {**SHUT, "rounds": ClusterTopic(described=TopicDescription(3, {}))}
    errors = [found for found in check_all(put({"topics": other}), Limits()) if found.severity is Severity.ERROR]
    assert [found.what for found in errors if found.check == "topics"] == ["partitions is 3, wanted 2"]


def test_a_journal_is_believed_before_a_group() -> None:
    """Guarantee: what a journal has decided does not wait, whatever the group has committed."""
    quiet, names = {"groups": {**GROUPS, "aggregator": Group(members=1)}}, [topic.name for topic in CATALOGUE]
    told = tuple(Tail(at=TopicPartition("rounds", part), position=dict.fromkeys(names, 99)) for part in range(2))
    inputs = 2 * len(ROLES["aggregator"].inputs)
    assert count_undecided(put(quiet, tails=()), "aggregator") == 100 * inputs
    assert count_undecided(put(quiet, tails=told), "aggregator") == inputs
