"""Certificates and keys of roles that have ended, or soon will."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from ops.doctor.facts import Facts, Limits
from ops.doctor.findings import Finding, Severity

FAMILY = "certificates"
_DAY_MS = 86_400_000


def check(facts: Facts, limits: Limits) -> Iterator[Finding]:
    """Yield what has ended, and what ends within `Limits.certificate_days`."""
    for each in facts.expiring:
        days = (each.until_ms - facts.now_ms) / _DAY_MS
        if days > limits.certificate_days:
            continue
        # With the date too: who reads this in a mail hours later cannot count from days.
        until = f"{datetime.fromtimestamp(each.until_ms / 1000, UTC):%Y-%m-%d %H:%M} UTC"
        yield Finding(
            check=FAMILY,
            severity=Severity.ERROR if days <= 0 else Severity.WARNING,
            subject=each.what,
            what=f"has ended on {until}" if days <= 0 else f"ends in {days:.0f} days, on {until}",
            remedy=each.renew,
        )
