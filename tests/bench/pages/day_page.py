"""The page of the simulated day, from its newest row: `docs/scale.md` and `docs/day.svg`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from statistics import fmean
from typing import Any, Protocol

from tests.bench.pages.chart import Panel, svg
from tests.trials.results import ROOT, rows

PAGE, FIGURE = Path("docs/scale.md"), Path("docs/day.svg")
BEGIN, END = "<!-- the day -->", "<!-- end of the day -->"
SECONDS = 3_600


class Hour(Protocol):
    """What a day keeps of each hour."""

    counts: Counter[str]
    staleness: Counter[int]
    leases: list[int]


def figures(hours: list[Hour]) -> dict[str, Any]:
    """The day in numbers: a list of 24 for each thing counted, and how many updates had which staleness."""
    names = sorted({name for hour in hours for name in hour.counts})
    staleness = sum((hour.staleness for hour in hours), Counter[int]())
    return {
        "hours": {name: [hour.counts[name] for hour in hours] for name in names}
        | {"at work": [round(fmean(hour.leases)) for hour in hours]},
        "staleness": [staleness[versions] for versions in range(max(staleness, default=0) + 1)],
    }


def write() -> None:
    """Draw the newest day of most devices."""
    day = max(rows("day"), key=lambda row: (row["devices"], row["at"]))
    (ROOT / FIGURE).write_text(svg(_panels(day)))
    page = (ROOT / PAGE).read_text()
    before, rest = page.split(BEGIN)
    (ROOT / PAGE).write_text(before + BEGIN + "\n" + _table(day) + END + rest.split(END)[1])


def _panels(day: dict[str, Any]) -> list[Panel]:
    hours, clock = day["hours"], range(24)
    a_second = {
        line: [count / SECONDS for count in hours[name]]
        for line, name in (("check-ins", "check-ins"), ("leases", "granted"), ("admitted", "admitted"))
    }
    lost = {
        line: [sum(hours[name][hour] for name in hours if name.startswith(start)) / SECONDS for hour in clock]
        for line, start in (("declined", "declined"), ("expired", "expired"), ("refused", "refused"))
    }
    share = [100 * count / sum(day["staleness"]) for count in day["staleness"]]
    return [
        Panel(title="A second", x_label="hour", x=clock, lines=a_second),
        Panel(title="A second, in vain", x_label="hour", x=clock, lines=lost),
        Panel(title="Devices at work", x_label="hour", x=clock, lines={"": hours["at work"]}),
        Panel(title="Versions an hour", x_label="hour", x=clock, lines={"": hours["versions"]}),
        Panel(
            title="Staleness of admitted updates, %",
            x_label="versions",
            x=range(len(share)),
            lines={"": share},
            bars=True,
        ),
    ]


COLUMNS = ("check-ins", "granted", "at work", "admitted", "versions", "declined", "refused", "expired")


def _table(day: dict[str, Any]) -> str:
    hours = day["hours"]

    def cell(column: str, hour: int) -> int:
        return sum(values[hour] for name, values in hours.items() if name.split(":")[0] == column)

    lines = [
        f"{day['devices']:,} devices, {sum(hours['check-ins']):,} check-ins, {sum(hours['admitted']):,} updates in",
        f"{sum(hours['versions']):,} versions, ε = {day['epsilon']} at the end: {day['decisions']:,} decisions,",
        f"{day['decisions_per_s']:,} a CPU second with the simulation itself, {day['cpu_s']:,} CPU seconds in all,",
        f"{day['process_bytes_per_device']} bytes of the process a device; commit {day['commit']}, seed {day['seed']}.",
        "",
        "![The day in five charts](day.svg)",
        "",
        "| hour | " + " | ".join(COLUMNS) + " |",
        "|---" * (len(COLUMNS) + 1) + "|",
        *(f"| {hour} | " + " | ".join(f"{cell(column, hour):,}" for column in COLUMNS) + " |" for hour in range(24)),
    ]
    return "\n".join(lines) + "\n"
