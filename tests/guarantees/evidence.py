"""What was tried, added up from the rows under docs/results: one Evidence a kind of trial."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from tests.results import rows

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One kind of trial: how often, for how long, and how many violations no mended bug explains."""

    title: str
    tried: str
    command: str
    tries: int
    violations: int
    seeds: int = 0
    seconds: float = 0.0
    table: str


def gathered(explained: frozenset[str]) -> dict[str, Evidence]:
    """Every kind by its name; `explained` are the seeds and cells of bugs that were mended."""
    return {
        "simulation": _simulation(rows("simulation"), explained),
        "chaos": _chaos(rows("chaos"), explained),
        "recovery": _recovery(rows("recovery")),
        "tamper": _tamper(rows("tamper")),
        "mutants": _mutants(rows("mutants")),
    }


def _simulation(found: Sequence[Row], explained: frozenset[str]) -> Evidence:
    seeds, seconds = sum(row["seeds"] for row in found), sum(row["seconds"] for row in found)
    violations = [str(fault["seed"]) for row in found for fault in row["violations"]]
    hits: Counter[str] = Counter()
    for row in found:
        hits.update(row["faults"])
    return Evidence(
        title="Simulation: the real actors and devices in one thread, virtual time, one seed",
        tried=f"{seeds:,} simulated histories",
        command="make sim-sweep MINUTES=10",
        tries=seeds,
        violations=len([seed for seed in violations if seed not in explained]),
        seeds=seeds,
        seconds=seconds,
        table=_table(
            ("figure", "so far"),
            [
                ("seeds", f"{seeds:,}"),
                ("steps", f"{sum(row['steps'] * row['seeds'] for row in found):,}"),
                ("hours of one core", f"{seconds / 3600:.1f}"),
                ("seeds that broke a promise, all mended since", f"{len(violations)}"),
                # What the log then held is no fault.
                *((name, f"{count:,}") for name, count in sorted(hits.items()) if not name.startswith("log: ")),
            ],
        ),
    )


def _chaos(found: Sequence[Row], explained: frozenset[str]) -> Evidence:
    cells: dict[str, list[Row]] = defaultdict(list)
    for row in found:
        cells[_cell(row)].append(row)
    broken = [
        cell for cell, tries in cells.items() if any(row["violations"] for row in tries) and cell not in explained
    ]
    by_fault: dict[str, list[Row]] = defaultdict(list)
    for row in found:
        by_fault[row["fault"]].append(row)
    lines = [
        (
            fault,
            f"{len({_cell(row) for row in tries})}",
            f"{sum(row['hits'] for row in tries)}",
            f"{sum(row['fenced'] for row in tries)}",
            f"{sum(row['zombies'] for row in tries)}",
            f"{sum(row['aborted'] for row in tries)}",
            f"{median(row['recovery_s'] for row in tries):.1f}",
            f"{sum(row['violations'] for row in tries)}",
        )
        for fault, tries in sorted(by_fault.items())
    ]
    head = ("fault", "cells", "hits", "writers fenced", "zombie batches", "aborted records", "recovery s", "violations")
    return Evidence(
        title="Kill matrix: crash points × faults × workers, on a real Kafka",
        tried=f"{len(cells)} cells of the kill matrix",
        command="make chaos",
        tries=len(found),
        violations=len(broken),
        seconds=sum(row["seconds"] for row in found),
        table=_table(head, lines),
    )


def _cell(row: Row) -> str:
    return f"{row['actor']}:{row['point']}:{row['fault']}:{row['workers']}"


def _recovery(found: Sequence[Row]) -> Evidence:
    newest = {(row["actor"], row["kind"], row["snapshot_used"], row["decisions"]): row for row in found}
    lines = [
        (*key, f"{row['median_s']:.1f}", f"{row['worst_s']:.1f}", f"{row['runs']}")
        for key, row in (((k[0], k[1], "yes" if k[2] else "no", f"{k[3]:,}"), newest[k]) for k in sorted(newest))
    ]
    runs = sum(row["runs"] for row in found)
    return Evidence(
        title="Recovery: seconds from SIGKILL to the first new decision",
        tried=f"{runs} timed deaths",
        command="make recovery",
        tries=runs,
        violations=0,
        seconds=sum(row["median_s"] * row["runs"] for row in found),
        table=_table(("actor", "killed", "snapshots", "decisions", "median s", "worst s", "runs"), lines),
    )


def _tamper(found: Sequence[Row]) -> Evidence:
    tried: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    for row in found:
        tried.update(row["mutations"])
        seen.update(row["found"])
    return Evidence(
        title="Tampering: random changes to an exported log",
        tried=f"{tried.total():,} mutations",
        command="make tamper N=10000",
        tries=tried.total(),
        violations=tried.total() - seen.total(),
        seconds=sum(row.get("seconds", 0.0) for row in found),
        table=_table(("change", "tried", "found"), [(k, f"{n:,}", f"{seen[k]:,}") for k, n in sorted(tried.items())]),
    )


def _mutants(found: Sequence[Row]) -> Evidence:
    newest = {row["mutant"]: row for row in found}
    lines = [(name, row["promise"], row["verdict"], f"`{row['by'].split('::')[-1]}`") for name, row in newest.items()]
    killed = sum(row["verdict"] == "killed" for row in newest.values())
    return Evidence(
        title="Mutants: faults planted in our own code",
        tried=f"{len(newest)} planted faults",
        command="make mutants",
        tries=len(newest),
        violations=len(newest) - killed,
        seconds=sum(row["seconds"] for row in newest.values()),
        table=_table(("fault", "breaks", "verdict", "seen by"), lines),
    )


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    written = ["| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *lines)]
    return "\n".join(written)


def bug_table(bugs: Sequence[Mapping[str, Any]]) -> str:
    """Each bug with what found it and the commit that mended it."""
    lines = [(bug["what"], bug["found_by"], f"`{bug['commit']}`") for bug in bugs]
    return _table(("bug", "found by", "mended in"), lines)
