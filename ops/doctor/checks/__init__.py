"""What can be wrong, one module a family; each takes facts and limits, yields findings, and knows nothing else.

`broker`: whether it answers, its release, copies and leaders. `topics`: settings. `rights`: who may do what.
`clocks`: log time and ours. `disks`: room. `transactions`: those that hang. `actors`: whether they live and keep up.
`chains`: the newest records of journals. `snapshots`: how long a restart reads. `keys`: modes of files.
`projections`: whether the history is up to the log. `certificates`: what ends soon.
"""

from __future__ import annotations

from collections.abc import Sequence

from ops.doctor.checks import (
    actors,
    broker,
    certificates,
    chains,
    clocks,
    disks,
    keys,
    projections,
    rights,
    snapshots,
    topics,
    transactions,
)
from ops.doctor.facts import Facts, Limits
from ops.doctor.findings import Finding, Severity

CHECKS = (
    broker,
    topics,
    rights,
    clocks,
    disks,
    transactions,
    actors,
    chains,
    snapshots,
    keys,
    projections,
    certificates,
)


def check_all(facts: Facts, limits: Limits | None = None) -> Sequence[Finding]:
    """Everything that is wrong, the worst first."""
    found = [finding for family in CHECKS for finding in family.check(facts, limits or Limits())]
    return sorted(found, key=lambda finding: [*Severity].index(finding.severity))
