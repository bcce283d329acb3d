"""What docs/performance.md says of robust rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.bench.measures.robust.rows import MEMORY_MB_MAX
from tests.bench.pages.text import kept, table

Rows = Sequence[dict[str, Any]]


def tell_robust(rows: Rows) -> str:
    """One round of each rule beside ByzFL, and the aggregator with many times K updates under way."""
    rounds = [row for row in rows if row["more"]["what"] == "round"]
    peak = max(row["more"]["peak_mb"] for row in rounds)
    head = ("rule", "CPU ms an update", "peak MB", "beside", "its CPU ms", "its peak MB", "ratio (least … most)")
    body = [
        (
            *(row["more"]["rule"], row["cpu_ms_per_update"], row["more"]["peak_mb"], row["peer"]),
            *(row["more"].get("peer_cpu_ms"), row["more"].get("peer_mb"), _ratio(row)),
        )
        for row in rounds
    ]
    crowds = [
        (more["rule"], more["times"], row["updates_per_s"], row["cpu_ms_per_update"], more["peak_mb"])
        for row in rows
        for more in (row["more"],)
        if more["what"] == "crowd"
    ]
    first = rounds[0]
    said = (
        f"Aim, at most {MEMORY_MB_MAX} MB with {first['more']['members']} updates of {first['params']:,} parameters: "
        f"{kept(peak <= MEMORY_MB_MAX)}, {peak:.0f} MB."
    )
    under_way = ("rule", "times K under way", "updates/s", "CPU ms an update", "peak MB")
    return "\n\n".join([said, table(head, body), table(under_way, crowds)])


def _ratio(row: dict[str, Any]) -> str:
    if row["ratio_median"] is None:
        return ""
    return f"{row['ratio_median']:.2f} ({row['ratio_min']:.2f} … {row['ratio_max']:.2f})"
