"""The part of docs/performance.md about the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.bench.pages.text import cell, kept, table
from tests.bench.rows import page

COLUMNS = {
    "paint": ("decisions", "visits", "paint_ms", "least_ms", "most_ms", "filled_ms", "weight_kb", "requests"),
    "open": ("pages", "events_per_s", "versions", "p50_ms", "p95_ms", "stream_p95_ms", "cpu_share", "idle_share"),
}
KILLED = ("comebacks", "missed", "reloads")


def tell_page(rows: Sequence[dict[str, Any]]) -> str:
    """Each aim and what became of it, then the figures."""
    told = {what: [row["more"] for row in rows if row["more"]["what"] == what] for what in COLUMNS}
    judged = [
        *(
            (f"first paint, {x['decisions']:,} decisions behind it, ms", x["paint_ms"], "paint_ms")
            for x in told["paint"]
        ),
        *(("weight of the page, kB", x["weight_kb"], "weight_kb") for x in told["paint"]),
        *(("a version on an open page after its append, p95 in ms", x["p95_ms"], "p95_ms") for x in told["open"]),
        *((f"{x['pages']} open pages, share of a core", x["cpu_share"], "cpu_share") for x in told["open"]),
        *(("missed, doubled or loaded anew after a kill", x["missed"] + x["reloads"], "missed") for x in told["open"]),
    ]
    said = [
        f"- {what}: {kept(page.is_kept(aim, value))}, {cell(value)}, aim {cell(page.AIMS[aim])}"
        for what, value, aim in judged
    ]
    tables = [table(names, [[each[name] for name in names] for each in told[what]]) for what, names in COLUMNS.items()]
    tables.append(table(KILLED, [[each[name] for name in KILLED] for each in told["open"]]))
    words = "`filled_ms`: when the view itself stands there; the frame around it goes ahead."
    return "\n\n".join(["\n".join(said), words, *tables])
