"""What came of the cells: one JSON line each in docs/results/chaos.jsonl, of which a cell's newest counts."""

from __future__ import annotations

import json
import subprocess
from collections import defaultdict
from dataclasses import asdict
from datetime import UTC, datetime
from statistics import median
from typing import Any

from tests.root import ROOT
from tests.trials.chaos.experiment import Outcome
from tests.trials.chaos.points import Cell

COUNTED = ("violations", "fenced", "zombies", "aborted", "replies_lost")
FILE = ROOT / "docs" / "results" / "chaos.jsonl"


def keep(cell: Cell, outcome: Outcome) -> str:
    """Append a row at once, so that whoever is interrupted goes on from there."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()
    at = datetime.now(UTC).isoformat(timespec="seconds")
    row = json.dumps({"at": at, "commit": commit, **asdict(cell), **asdict(outcome)})
    FILE.parent.mkdir(parents=True, exist_ok=True)
    with FILE.open("a") as file:
        file.write(row + "\n")
    return row


def newest() -> dict[str, dict[str, Any]]:
    """The newest row of each cell."""
    lines = FILE.read_text().splitlines() if FILE.exists() else []
    rows = [json.loads(line) for line in lines]
    return {":".join(str(row[name]) for name in ("actor", "point", "fault", "workers")): row for row in rows}


def clean() -> set[str]:
    """Cells whose newest row has a hit and no violation."""
    return {name for name, row in newest().items() if row["hits"] and not row["violations"]}


def table() -> str:
    """A line for each actor and fault, and the cells that are not clean."""
    groups: defaultdict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in newest().values():
        groups[row["actor"], row["fault"]].append(row)
    heads = ("cells", "hit", "violations", "fenced", "zombies", "aborted", "replies lost", "recovery s", "worst s")
    lines = [f"{'actor':<11}{'fault':<9}" + "".join(f"{head:>13}" for head in heads)]
    for (actor, fault), rows in sorted(groups.items()):
        times = [row["recovery_s"] for row in rows if row["recovery_s"] is not None] or [0.0]
        sums = [sum(row[name] for row in rows) for name in COUNTED]
        cells = [len(rows), sum(row["hits"] > 0 for row in rows), *sums, median(times), max(times)]
        lines.append(f"{actor:<11}{fault:<9}" + "".join(f"{round(figure, 1):>13}" for figure in cells))
    unclean = sorted(newest().keys() - clean())
    return "\n".join([*lines, *(f"not clean: {name}: {newest()[name]['first_violation'][:200]}" for name in unclean)])
