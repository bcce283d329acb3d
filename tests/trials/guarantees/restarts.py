"""Recovery, from its rows: whether a restart stays short however old the task is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tests.trials.chaos.points import ALONE, POINTS
from tests.trials.guarantees.evidence import Evidence, Excuses, Row, table, wrap_text

BEYOND_TIMEOUT_S_MAX = 5.0
DECISIONS = 1_000_000
ACTORS = [actor for actor in POINTS if actor not in ALONE]
# An opening is a part of a death, timed once more.
DEATHS = ("child", "supervisor")


def recovery(found: Sequence[Row], excused: Excuses) -> Evidence:
    """The newest measurement of each actor, death and length; what counts are the deaths with snapshots."""
    keyed = {(row["actor"], row["kind"], row["snapshots"], row["decisions"]): row for row in found}
    newest = [keyed[key] for key in sorted(keyed)]
    deaths = [row for row in newest if row["snapshots"] and row["kind"] in DEATHS]
    slow = [row for row in newest if row["snapshots"] and row["worst_s"] > _limit_s(row)]
    broken = [
        row for row in slow if row["decisions"] >= DECISIONS and (named(row), f"{row['worst_s']} s") not in excused
    ]
    runs = sum(row["runs"] for row in deaths)
    return Evidence(
        title="Recovery: seconds from SIGKILL to the first new decision",
        tried=f"{runs} timed deaths of {' and '.join(sorted({row['actor'] for row in deaths}))}, with snapshots",
        command="make recovery",
        tries=runs,
        violations=len(broken),
        struck=Counter({kind: sum(row["runs"] for row in deaths if row["kind"] == kind) for kind in DEATHS}),
        body=_body(newest, shorter=sum(row["decisions"] < DECISIONS for row in slow)),
        seconds=sum(row["median_s"] * row["runs"] for row in deaths),
    )


def _limit_s(row: Row) -> float:
    return float(row["session_timeout_s"]) + BEYOND_TIMEOUT_S_MAX


def named(row: Row) -> str:
    """What was measured."""
    return f"{row['actor']}:{row['kind']}:{row['decisions']}"


def _body(newest: Sequence[Row], *, shorter: int) -> str:
    measured = {row["actor"] for row in newest if row["snapshots"] and row["decisions"] >= DECISIONS}
    told = ", ".join(actor for actor in ACTORS if actor in measured) or "none"
    untold = ", ".join(actor for actor in ACTORS if actor not in measured) or "none"
    head = ("actor", "killed", "snapshots", "decisions", "median s", "worst s", "runs", "within the limit")
    lines = [
        (
            row["actor"],
            row["kind"],
            ("used" if row["snapshot_used"] else "none yet") if row["snapshots"] else "off",
            f"{row['decisions']:,}",
            f"{row['median_s']:.1f}",
            f"{row['worst_s']:.1f}",
            f"{row['runs']}",
            "yes" if row["worst_s"] <= _limit_s(row) else "no",
        )
        for row in newest
    ]
    words = (
        f"The limit is the session timeout and {BEYOND_TIMEOUT_S_MAX:.0f} s. The promise is broken where, with "
        f"snapshots, the worst with {DECISIONS:,} decisions is above it; of the lines with snapshots and fewer "
        f"decisions {shorter} are. *open* is the part of both deaths that opening a partition takes, and *off* is from "
        f"before there were snapshots; neither counts as tried. Measured at that length: {told}. Not measured: "
        f"{untold}."
    )
    return f"{table(head, lines)}\n\n{wrap_text(words)}"
