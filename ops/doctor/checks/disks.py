"""Whether the brokers, and the folder of this machine, have room left."""

from __future__ import annotations

from collections.abc import Iterator

from ops.doctor.facts import Disk, Facts, Limits
from ops.doctor.findings import Finding, Severity

FAMILY = "disks"


def check(facts: Facts, limits: Limits) -> Iterator[Finding]:
    """Yield each disk that is nearly full."""
    brokers = () if facts.cluster is None else facts.cluster.brokers
    of_brokers = [Disk(place=f"broker {b.id}: {d.path}", size=d.size, left=d.left) for b in brokers for d in b.disks]
    for disk in (*of_brokers, *facts.disks):
        # A broker of an old release says nothing of its disks.
        if disk.size > 0 and disk.left < limits.disk_left_low * disk.size:
            # Then a broker may end before anybody has read this.
            is_least = disk.left < limits.disk_left_least * disk.size
            yield Finding(
                check=FAMILY,
                severity=Severity.ERROR if is_least else Severity.WARNING,
                subject=disk.place,
                what=f"{disk.left / 1e9:.1f} GB of {disk.size / 1e9:.0f} GB are left",
                remedy="make room, or add some. A broker whose disk is full ends. Journals are never deleted; look "
                "whether `bodies` grow because a worker that deletes them does not run (`fedlog topics list`)",
            )
