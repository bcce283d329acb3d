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
    cluster, role = facts.cluster, ROLES[name]
    assert cluster is not None
    positions = {tail.at: tail.position for tail in facts.tails}
    for topic in role.inputs:
        for partition in range(cluster.partitions):
            at = TopicPartition(topic, partition)
            reached = _find_reached(cluster, name, at=at)
            # Of the two the further one: a journal names its position with the next decision, the group within seconds.
            reached = max(reached, positions.get(TopicPartition(role.journal, partition), {}).get(topic, 0))
            old = cluster.recent.get(at, 0) - reached
            if old > (MARKERS if topic in _IS_JOURNAL else 0):
                yield at, old


def count_undecided(facts: Facts, name: str) -> int:
    """How many offsets of its inputs an actor has not acknowledged; never quite zero where an input is a journal."""
    cluster = facts.cluster
    assert cluster is not None
    places = [TopicPartition(topic, part) for topic in ROLES[name].inputs for part in range(cluster.partitions)]
    return sum(max(0, cluster.ends.get(at, 0) - _find_reached(cluster, name, at=at)) for at in places)


def _find_reached(cluster: Cluster, name: str, *, at: TopicPartition) -> int:
    group = cluster.groups.get(name)
    return 0 if group is None else group.offsets.get(at, 0)


def _find(subject: str, what: str, *, remedy: str) -> Finding:
    return Finding(check=FAMILY, severity=Severity.ERROR, subject=subject, what=what, remedy=remedy)
