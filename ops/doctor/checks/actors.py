"""Whether an actor runs for each journal, and whether any has fallen behind its inputs."""

from __future__ import annotations

from collections.abc import Iterator

from actors.wiring import ROLES
from ops.doctor.facts import Cluster, Facts, Limits
from ops.doctor.findings import Finding, Severity
from schemas.topics import JOURNALS, TASKS
from streams.log import TopicPartition

FAMILY = "actors"
# Behind the last record of a journal stands the marker of its transaction, and there may be some of aborted ones.
MARKERS = 4
# The others are needed by some tasks only: by private ones, where devices enrol, where versions are rolled out.
_ALWAYS = ("selector", "aggregator")
_IS_JOURNAL = {topic.name for topic in JOURNALS}


def check(facts: Facts, limits: Limits) -> Iterator[Finding]:
    """Yield each actor that does not run or stands still."""
    cluster = facts.cluster
    # Before the first task nobody has anything to decide.
    if cluster is None or not any(end for at, end in cluster.ends.items() if at.topic == TASKS.name):
        return
    for name, role in ROLES.items():
        group = cluster.groups.get(name)
        has_run = any(end for at, end in cluster.ends.items() if at.topic == role.journal)
        is_asked = name == "privacy" and any(tail.is_private for tail in facts.tails)
        if group is not None and not group.members and (name in _ALWAYS or has_run or is_asked):
            yield _find(
                f"worker {name}",
                "no worker of this actor is alive: whatever it has to decide waits",
                remedy=f"start `fedlog worker {name}`; its last lines in the log say why it ended. One that is frozen "
                "counts as gone after 8 s: `kill -USR1 PID` prints where it stands",
            )
            continue
        # Without privacy nobody reads `rounds` for charges, and nobody has to.
        if name not in _ALWAYS and not has_run and not is_asked:
            continue
        waiting = dict(find_waiting(facts, name))
        # One finding for all its partitions: what holds one up mostly holds them all.
        if waiting:
            at = max(waiting, key=lambda place: waiting[place])
            yield _find(
                f"worker {name}",
                f"has not decided {sum(waiting.values())} records that are older than {limits.waiting_s:.0f} s in "
                f"{len(waiting)} partitions, most of them in {at}",
                remedy="look at its log for `defect`, `still_waiting` or `broker_away`; where it only is slow, start "
                "another worker of it on another machine",
            )


def find_waiting(facts: Facts, name: str) -> Iterator[tuple[TopicPartition, int]]:
    """How many records an actor has not decided that are older than `Limits.waiting_s`, by partition of its inputs."""
    assert facts.cluster is not None
    for at in _list_inputs(facts.cluster, name):
        old = facts.cluster.recent.get(at, 0) - _find_reached(facts, name, at=at)
        if old > (MARKERS if at.topic in _IS_JOURNAL else 0):
            yield at, old


def count_undecided(facts: Facts, name: str) -> int:
    """How many offsets of its inputs an actor has not decided; never quite zero where an input is a journal."""
    assert facts.cluster is not None
    ends = facts.cluster.ends
    places = _list_inputs(facts.cluster, name)
    return sum(max(0, ends.get(at, 0) - _find_reached(facts, name, at=at)) for at in places)


def _list_inputs(cluster: Cluster, name: str) -> list[TopicPartition]:
    return [TopicPartition(topic, part) for topic in ROLES[name].inputs for part in range(cluster.partitions)]


def _find_reached(facts: Facts, name: str, *, at: TopicPartition) -> int:
    """How far an actor is: a journal names its position with the next decision, the group most often within seconds."""
    assert facts.cluster is not None
    group, journal = facts.cluster.groups.get(name), TopicPartition(ROLES[name].journal, at.partition)
    told = next((tail.position.get(at.topic, 0) for tail in facts.tails if tail.at == journal), 0)
    return max(told, 0 if group is None else group.offsets.get(at, 0))


def _find(subject: str, what: str, *, remedy: str) -> Finding:
    return Finding(check=FAMILY, severity=Severity.ERROR, subject=subject, what=what, remedy=remedy)
