"""The trials that need no Kafka, added up from their rows: simulation, tampering, mutants."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from tests.trials.guarantees.evidence import MODELS, Evidence, Excuses, Row, table, wrap_text
from tests.trials.mutants.table import Mutant, Unplanted, mutants, unplanted


def simulation(found: Sequence[Row], excused: Excuses, *, exact: bool) -> Evidence:
    """All sweeps; or, `exact`, those that compared published models bit for bit."""
    found = [row for row in found if not exact or row["faults"].get(MODELS)]
    seeds, seconds = sum(row["seeds"] for row in found), sum(row["seconds"] for row in found)
    violations = [(str(fault["seed"]), fault["fault"]) for row in found for fault in row["violations"]]
    unexplained = [each for each in violations if each not in excused]
    hits: Counter[str] = Counter()
    for row in found:
        hits.update(row["faults"])
    figures = [
        ("seeds", f"{seeds:,}"),
        ("steps at most", f"{sum(row['steps'] * row['seeds'] for row in found):,}"),
        ("hours of sweeping, on every core at once", f"{seconds / 3600:.1f}"),
        ("published models recomputed bit for bit", f"{hits[MODELS]:,}"),
        ("seeds that broke a promise", f"{len(violations)}"),
        ("of these, explained by no bug below", f"{len(unexplained)}"),
        # What the log then held is no fault.
        *((name, f"{count:,}") for name, count in sorted(hits.items()) if name != MODELS and name[:5] != "log: "),
    ]
    return Evidence(
        title="Simulation: the real actors and devices in one thread, virtual time, one seed",
        tried=f"{seeds:,} simulated histories",
        command="make sim-sweep MINUTES=10",
        tries=seeds,
        violations=len(unexplained),
        struck=hits,
        body=table(("figure", "so far"), figures),
        seeds=seeds,
        seconds=seconds,
        models=hits[MODELS],
    )


def tamper(found: Sequence[Row]) -> Evidence:
    """Every change to an exported log; one that was not found is a violation."""
    tried: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    for row in found:
        tried.update(row["mutations"])
        seen.update(row["found"])
    lines = [(kind, f"{count:,}", f"{seen[kind]:,}") for kind, count in sorted(tried.items())]
    return Evidence(
        title="Tampering: random changes to an exported log",
        tried=f"{tried.total():,} mutations",
        command="make tamper N=10000",
        tries=tried.total(),
        violations=tried.total() - seen.total(),
        struck=tried,
        body=table(("change", "tried", "found"), lines),
        seconds=sum(row.get("seconds", 0.0) for row in found),
    )


def planted(found: Sequence[Row]) -> Evidence:
    """The newest verdict on each mutant that the table has today; one that was not tried yet is no try."""
    newest = {row["mutant"]: row for row in found}
    known = mutants()
    judged = [newest[mutant.name] for mutant in known if mutant.name in newest]
    lines = [_verdict(mutant, newest.get(mutant.name)) for mutant in known]
    return Evidence(
        title="Mutants: faults planted in our own code",
        tried=f"{len(judged)} of {len(known)} planted faults",
        command="make mutants",
        tries=len(judged),
        violations=sum(row["verdict"] != "killed" for row in judged),
        struck=Counter(planted=len(judged)),
        body=table(("fault", "breaks", "verdict", "seen by"), lines) + "".join(_nowhere(unplanted())),
        seconds=sum(row["seconds"] for row in judged),
    )


def _verdict(mutant: Mutant, row: Row | None) -> tuple[str, ...]:
    if row is None:
        return mutant.name, mutant.promise, "not tried yet", ""
    # A test's parameters were cut at their first space.
    return mutant.name, mutant.promise, row["verdict"], f"`{row['by'].split('::')[-1].split('[')[0]}`"


def _nowhere(reasons: Sequence[Unplanted]) -> Iterator[str]:
    for each in reasons:
        yield "\n\n" + wrap_text(f"Planted nowhere: *{each.name}*, because {each.because} Held by `{each.test}`.")
