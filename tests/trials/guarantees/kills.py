"""The kill matrix, added up from its rows: cells that are planned, tried and missing, and what was found in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from statistics import median

from tests.trials.chaos.points import FAULTS, POINTS, Cell, matrix
from tests.trials.guarantees.evidence import Evidence, Excuses, Row, table

HEAD = (
    "fault", "cells planned", "tried", "missing", "runs", "points passed", "writers fenced", "zombie batches",
    "aborted records", "replies lost", "recovery s, median", "worst", "violations",
)  # fmt: skip
SUMS = ("hits", "fenced", "zombies", "aborted", "replies_lost")


def chaos(found: Sequence[Row], excused: Excuses, *, exact: bool) -> Evidence:
    """All runs whose fault has struck; or, `exact`, those that compared published models bit for bit."""
    found = [row for row in found if row["hits"] and (row.get("models") or not exact)]
    planned, tried = list(matrix()), {named(row) for row in found}
    done = [cell for cell in planned if str(cell) in tried]
    broken = {named(row) for row in found if row["violations"] and (named(row), row["first_violation"]) not in excused}
    return Evidence(
        title="Kill matrix: crash points × faults × workers, on a real Kafka",
        tried=f"{len(done)} of {len(planned)} cells of the kill matrix",
        command="make chaos",
        tries=len(found),
        violations=len(broken),
        struck=Counter(f"{row['fault']}:{row['actor']}:{row['point']}" for row in found),
        body="\n\n".join((_by_fault(found, planned, tried), _by_actor(planned, tried))),
        seconds=sum(row["seconds"] for row in found),
        models=sum(row.get("models") or 0 for row in found),
    )


def named(row: Row) -> str:
    """The cell that a row is of."""
    return f"{row['actor']}:{row['point']}:{row['fault']}:{row['workers']}"


def _by_fault(found: Sequence[Row], planned: Sequence[Cell], tried: Collection[str]) -> str:
    """A line a fault, tried or not, and one for all."""
    lines = []
    for fault in (*FAULTS, "all"):
        runs = [row for row in found if fault in ("all", row["fault"])]
        cells = [str(cell) for cell in planned if fault in ("all", cell.fault)]
        done = sum(cell in tried for cell in cells)
        times = [row["recovery_s"] for row in runs if row["recovery_s"] is not None]
        figures = [len(cells), done, len(cells) - done, len(runs), *(sum(row[name] for row in runs) for name in SUMS)]
        waits = [f"{median(times):.1f}", f"{max(times):.1f}"] if times else ["", ""]
        lines.append([fault, *(f"{figure:,}" for figure in figures), *waits, f"{sum(r['violations'] for r in runs)}"])
    return table(HEAD, lines)


def _by_actor(planned: Sequence[Cell], tried: Collection[str]) -> str:
    """Cells tried of those planned, actor by actor."""
    lines = []
    for fault in FAULTS:
        line = [fault]
        for actor in POINTS:
            cells = [str(cell) for cell in planned if (cell.fault, cell.actor) == (fault, actor)]
            line.append(f"{sum(cell in tried for cell in cells)} of {len(cells)}" if cells else "none planned")
        lines.append(line)
    return table(("cells tried", *POINTS), lines)
