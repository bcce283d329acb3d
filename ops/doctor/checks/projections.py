"""Whether the history that page, API and queries read is up to the log."""

from __future__ import annotations

from collections.abc import Iterator

from ops.doctor.facts import Facts, Limits
from ops.doctor.findings import Finding, Severity

FAMILY = "projections"
# As in `actors`: markers behind a journal's last record.
MARKERS = 4
_STUCK = (
    "the process that keeps it (`fedlog serve` or `fedlog history sync --follow`) is stuck or too slow: look at its "
    "log, start it again; `fedlog history rebuild` makes it anew"
)


def check(facts: Facts, limits: Limits) -> Iterator[Finding]:
    """Yield a history that cannot be read, or is behind."""
    history = facts.projection
    if history is None or facts.cluster is None:
        return
    if history.unreadable:
        yield Finding(
            check=FAMILY,
            severity=Severity.ERROR,
            subject=history.path,
            what=f"the history cannot be read: {history.unreadable}",
            remedy=_STUCK if history.is_followed else "fedlog history rebuild",
        )
        return
    behind = {
        at: count for at, count in history.find_unread(facts.cluster.recent_for_history).items() if count > MARKERS
    }
    if not behind:
        return
    first = max(behind, key=lambda at: behind[at])
    # Where no process keeps it, being behind is how a history is between two questions.
    remedy = "fedlog history sync --follow, or `fedlog serve`, keep it up to date; `fedlog query` catches up by itself"
    if history.is_followed:
        remedy = _STUCK
    yield Finding(
        check=FAMILY,
        severity=Severity.ERROR if history.is_followed else Severity.WARNING,
        subject=history.path,
        what=f"{sum(behind.values())} offsets older than {limits.behind_s:.0f} s are not in it, most of {first}",
        remedy=remedy,
    )
