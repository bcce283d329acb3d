"""Whether a restart finds a snapshot to go on from, or has to read a long journal."""

from __future__ import annotations

from collections.abc import Iterator

from actors.wiring import ROLES
from ops.doctor.facts import Facts, Limits
from ops.doctor.findings import Finding, Severity
from streams.log import TopicPartition

FAMILY = "snapshots"


def check(facts: Facts, limits: Limits) -> Iterator[Finding]:
    """Yield each long journal without a snapshot near its end that this release can use."""
    if facts.cluster is None:
        return
    newest = {(seen.actor, seen.partition): seen for seen in facts.snapshots}
    for name, role in ROLES.items():
        for partition in range(facts.cluster.partitions):
            seen = newest.get((name, partition))
            end = facts.cluster.ends.get(TopicPartition(role.journal, partition), 0)
            # Other code may fold the same events otherwise, so that its snapshots are passed over.
            usable = seen.offset if seen is not None and seen.is_of_this_code else 0
            if end - usable <= limits.unsnapshot_offsets:
                continue
            why = "none is there" if seen is None else "the newest is old"
            if seen is not None and not seen.is_of_this_code:
                why = "the newest was made by the code of another release"
            yield Finding(
                check=FAMILY,
                severity=Severity.WARNING,
                subject=f"{name}, partition {partition}",
                what=f"a restart has to read {end - usable} offsets of its journal: {why}",
                remedy="look for `snapshot_not_stored` and `snapshot_too_large` in the worker's log; after an upgrade "
                "the next digest brings one by itself",
            )
