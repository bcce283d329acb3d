"""The part of docs/performance.md about the gateway."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tests.bench.pages.text import cell, kept, table
from tests.bench.rows.gateway import AIMS

Rows = Sequence[dict[str, Any]]
HAND_IN = {
    "updates/s": "updates_per_s",
    "gateway's CPU ms": "cpu_ms_per_update",
    "p50 ms": "p50_ms",
    "p99 ms": "p99_ms",
    "MB before": "before_mb",
    "MB after": "after_mb",
}
DECIDED = {
    "updates/s": "decided_updates_per_s",
    "gateway's CPU ms": "decided_cpu_ms",
    "aggregator's CPU ms": "decided_aggregator_ms",
    "p50 ms": "decided_p50_ms",
    "p99 ms": "decided_p99_ms",
}
FLOOR = {
    "plain CPU ms": "plain_ms",
    "barest server's CPU ms": "floor_ms",
    "with signatures": "signed_ms",
    "gateway's": "cpu_ms_per_update",
    "barest beside plain": "floor_share",
    "with signatures beside plain": "signed_share",
    "gateway beside plain": "plain_share",
}
PEER = {
    "updates/s": "peer_updates_per_s",
    "CPU ms": "peer_cpu_ms",
    "p50 ms": "peer_p50_ms",
    "p99 ms": "peer_p99_ms",
    "requests": "peer_requests_each",
    "MB before": "peer_before_mb",
    "MB after": "peer_rss_mb",
}
FIRE = ("goodput", "asked", "p50_ms", "p99_ms", "alone_goodput", "alone_p50_ms", "alone_p99_ms")
FIRE += ("capacity_per_s", "hostile_per_s", "before_mb", "after_mb")


def tell_gateway(rows: Rows) -> str:
    """Each aim and what became of it, then the figures."""
    handed, idle, fire = ([row for row in rows if row["more"]["what"] == what] for what in WHATS)
    aims = [*_judge_updates(handed), *_judge_fire(fire)]
    said = [f"- {what}: {kept(is_kept)}, {cell(value)}, aim {cell(AIMS[aim])}" for what, value, aim, is_kept in aims]
    beside = [row for row in handed if row["peer"]]
    return "\n\n".join(
        [
            "\n".join(said),
            "Handed in, until the gateway has answered that the log has it:",
            _tell(HAND_IN, handed),
            "Beside what the same requests cost at the least:",
            _tell(FLOOR, handed),
            "Until the aggregator's outcome is known:",
            _tell(DECIDED, handed),
            *(
                ["Flower's SuperLink, until it has the last object of an update:", _tell(PEER, beside)]
                if beside
                else []
            ),
            "Memory against connections, MB:",
            *(_tell_idle(row, handed) for row in idle),
            "Under fire:",
            table(FIRE, [[row["more"][name] for name in FIRE] for row in fire]),
            *(_tell_answers(row["more"]["answers"]) for row in fire),
        ]
    )


WHATS = ("hand in", "idle", "under fire")


def _judge_updates(rows: Rows) -> Iterator[tuple[str, float, str, bool]]:
    for row in rows:
        more, what = row["more"], f"{row['params']:,} parameters, {row['codec']}"
        if row["params"] == min(each["params"] for each in rows):
            rate = more["per_core_s"]
            yield f"{what}: updates a second of the gateway's CPU", rate, "per_core_s", rate >= AIMS["per_core_s"]
        if row["params"] == max(each["params"] for each in rows) and row["codec"] == "int8":
            share = more["plain_share"]
            # The barest server's share stands in the text, because an aim below it is nobody's to keep.
            beside = f"{what}: CPU beside plain digest and append (the barest server: {cell(more['floor_share'])})"
            yield beside, share, "plain_share", share <= AIMS["plain_share"]
        if row["peer"]:
            ratio = row["ratio_median"]
            yield f"{what}: updates/s beside {row['peer']}", ratio, "ratio", ratio >= AIMS["ratio"]
    held = [row["more"]["after_mb"] for row in rows]
    # With one size alone nothing grows.
    if len(held) < 2:
        return
    growth = max(held) / min(held) - 1
    yield "memory, largest over smallest body", growth, "rss_growth", growth <= AIMS["rss_growth"]


def _judge_fire(rows: Rows) -> Iterator[tuple[str, float, str, bool]]:
    for row in rows:
        more = row["more"]
        what = f"honest goodput beside {more['hostile_share']:g} times the capacity of hostile traffic"
        yield what, more["goodput"], "goodput", more["goodput"] >= AIMS["goodput"]


def _tell(columns: dict[str, str], rows: Rows) -> str:
    head = ("parameters", "codec", *columns)
    flat = [{**row, **row["more"]} for row in rows]
    return table(head, [(row["params"], row["codec"], *(row[name] for name in columns.values())) for row in flat])


def _tell_idle(row: dict[str, Any], handed: Rows) -> str:
    counts = [name for name in row["more"] if name.isdigit()]
    lines = [("gateway", *(row["more"][count] for count in counts))]
    if handed and handed[0]["peer"]:
        more = handed[0]["more"]
        lines.append((handed[0]["peer"], *(more.get(f"peer_idle_{count}_mb") for count in counts)))
    return table(("idle connections", *(f"{int(count):,}" for count in counts)), lines)


def _tell_answers(answers: dict[str, int]) -> str:
    return table(("hostile request: answer", "times"), sorted(answers.items()))
