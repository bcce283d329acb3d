"""Whether files and folders with secrets are closed to other users of this machine."""

from __future__ import annotations

from collections.abc import Iterator

from ops.doctor.facts import Facts, Limits
from ops.doctor.findings import Finding, Severity

FAMILY = "keys"


def check(facts: Facts, limits: Limits) -> Iterator[Finding]:
    """Yield each that others may read or write."""
    for file in facts.private_files:
        # Also what others may only write: whoever replaces a key is the role from then on.
        if file.mode & 0o077:
            yield Finding(
                check=FAMILY,
                severity=Severity.ERROR,
                subject=file.path,
                what=f"mode {file.mode:04o} lets other users of this machine in",
                remedy=f"chmod {'700' if file.is_folder else '600'} {file.path}; whoever has read a key can use it: "
                'see docs/operations.md, "After a leak"',
            )
