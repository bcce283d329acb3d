"""Whether the brokers' clock, which is log time, and this machine's agree."""

from __future__ import annotations

from collections.abc import Iterator

from ops.doctor.facts import Facts, Limits
from ops.doctor.findings import Finding, Severity

FAMILY = "clocks"


def check(facts: Facts, limits: Limits) -> Iterator[Finding]:
    """Yield a broker's clock that is ahead of ours; one behind cannot be told from a log to which nobody writes."""
    # Nobody asks a broker for the time: what it stamped on records is all that it says of its clock.
    newest_ms = None if facts.cluster is None else facts.cluster.newest_ms
    if newest_ms is None:
        return
    ahead_s = (newest_ms - facts.now_ms) / 1000
    # Some seconds are ordinary between two machines, and deadlines allow for them.
    if ahead_s > limits.clocks_differ_s:
        yield Finding(
            check=FAMILY,
            severity=Severity.ERROR,
            subject=facts.servers,
            what=f"a record was appended {ahead_s:.0f} s in this machine's future: one of the two clocks is wrong",
            remedy="compare both with a time server (`timedatectl`, `chronyc tracking`). Log time never goes back: "
            "after a jump ahead, leases and deadlines stand still until the right time has caught up",
        )
