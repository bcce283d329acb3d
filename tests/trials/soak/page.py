"""docs/soak.md from the newest row; never edited by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.bench.pages.text import table, wrap
from tests.root import ROOT
from tests.trials.results import rows as all_rows

PAGE, TEXT = ROOT / "docs" / "soak.md", Path(__file__).with_name("soak.md")
PICTURE = ROOT / "docs" / "plots" / "soak.svg"
UNITS = {"memory": "MiB", "resident": "MiB", "threads": "", "handles": "", "lag": "records", "disk": "MiB"}
# So that nobody takes a short run for a long one.
LONG_MINUTES = 30.0


def write() -> None:
    """The text with each `<!-- name -->` replaced by what the newest run found."""
    row = all_rows("soak")[-1]
    text = TEXT.read_text()
    for name, part in {"run": _tell_run(row), "verdicts": _list_verdicts(row), "runs": _list_runs()}.items():
        text = text.replace(f"<!-- {name} -->", part)
    PAGE.write_text(text)


def tell(row: dict[str, Any]) -> str:
    """One figure of one part on one line."""
    grows = f"{row['slope']:+.3g} an hour ({row['low']:+.3g} to {row['high']:+.3g})" if "slope" in row else "-"
    may = f"ceiling {row['ceiling']:g}" if "ceiling" in row else f"bound {row['bound']:g}" if "bound" in row else ""
    return f"{row['verdict']:10}{row['part']:32}{row['figure']:10}{row['median']:>9g}{row['most']:>9g}  {grows} {may}"


def _tell_run(row: dict[str, Any]) -> str:
    is_short = row["minutes"] < LONG_MINUTES
    warning = (
        "This run was short: it shows that the instrument works, and says little of slow leaks. " if is_short else ""
    )
    judged = [each for each in row["rows"] if "bound" in each or "ceiling" in each]
    verdicts = {name: sum(each["verdict"] == name for each in judged) for name in ("grows", "undecided", "too short")}
    laws = f"{len(row['violations'])} violations of the laws" if row["violations"] else "no law broken"
    return wrap(
        f"{warning}Commit {row['commit']}, {row['at'][:10]}: {row['minutes']:g} minutes, seed {row['seed']}, "
        f"{len(row['kills'])} kills, {_tell_rate(row)}. "
        f"{row['UpdateAdmitted']:,} updates admitted, {row['ModelPublished']:,} versions, "
        f"{row['records_h']:,.0f} records and {row['log_mib_h']:,.0f} MiB of log an hour; {row['pages']:,} pages "
        f"answered, {row['pages_missed']} not. At the end: replay {row['replay']}, "
        f"{row['unchecked']} versions unchecked, {laws}, {row['zombies']} batches of zombies. Of {len(judged)} judged "
        f"figures {verdicts['grows']} grow, {verdicts['undecided']} are undecided, and {verdicts['too short']} had no "
        "life that was long enough."
    )


def _tell_rate(row: dict[str, Any]) -> str:
    return f"about {row['rate']:g} updates a second asked for" if row.get("rate") else "as fast as it went"


def _list_verdicts(row: dict[str, Any]) -> str:
    lines = []
    for each in row["rows"]:
        if each["verdict"] == "shown" or "watches" in each["part"]:
            continue
        unit = UNITS[each["figure"]]
        growth = f"{each['slope']:+.3g} ({each['low']:+.3g} to {each['high']:+.3g})" if "slope" in each else "–"
        may = (
            f"at most {each['ceiling']:g} in all"
            if "ceiling" in each
            else f"{each['bound']:.3g}"
            if "bound" in each
            else ""
        )
        verdict = f"**{each['verdict']}**" if each["verdict"] == "grows" else each["verdict"]
        lines.append(
            [
                each["part"],
                f"{each['figure']}{unit and ', ' + unit}",
                each["median"],
                each["most"],
                growth,
                may,
                verdict,
            ]
        )
    return table(["part", "figure", "median", "most", "growth an hour (99 %)", "may grow", "verdict"], lines)


def _list_runs() -> str:
    lines = [
        [
            row["at"][:10],
            row["commit"],
            f"{row['minutes']:g}",
            row["seed"],
            len(row["kills"]),
            f"{row['rate']:g}" if row.get("rate") else "–",
            row["UpdateAdmitted"],
            row["replay"],
            len(row["violations"]),
            sum(each["verdict"] == "grows" for each in row["rows"]),
        ]
        for row in all_rows("soak")
    ]
    return table(
        ["day", "commit", "minutes", "seed", "kills", "a second", "admitted", "replay", "violations", "grow"], lines
    )
