"""Writes docs/guarantees.md and build/guarantees.json from promises.toml and what was tried; neither is edited by hand.

python -m tests.trials.guarantees
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.root import ROOT
from tests.trials.guarantees import floods, kills, restarts, trials
from tests.trials.guarantees.evidence import Evidence, Excuses, table, wrap_text
from tests.trials.results import rows

PAGE = ROOT / "docs" / "guarantees.md"
FIGURES = ROOT / "build" / "guarantees.json"
TITLE = """# Guarantees

What fedlog promises, what was done to break it, and the result. `make guarantees` writes this page from the results
under [docs/results](results); it is never edited by hand. The [glossary](glossary.md) explains the words."""
LEGEND = """*Broken* counts violations that no bug in the list below explains. A promise with anything but 0 there is
not kept; ? means not tried. Where promises name the same trials, each trial was checked for all of them."""
COMMITS = """A commit id in this list, in [docs/results](results), in [codecs.md](codecs.md) or in [scale.md](scale.md)
that git does not know here was recorded before the first commit of this repository, “Set up, pinned and hashed, with
nothing presumed but Python, git and make”: the history before it was not kept, so the state in which a seed failed
cannot be checked out. Of a bug without a seed no seed was recorded."""
KAFKA = {
    "simulation": "simulated",
    "chaos": "on Kafka, runs",
    "tamper": "changes",
    "recovery": "deaths",
    "floods": "records",
}


@dataclass(frozen=True, slots=True)
class Claim:
    """A promise and the evidence that counts for it."""

    promise: Mapping[str, Any]
    found: Mapping[str, Evidence]
    faults: Sequence[Mapping[str, Any]]

    @property
    def tries(self) -> int:
        """How often it was tried."""
        return sum(each.tries for each in self.found.values())

    @property
    def violations(self) -> int:
        """What was found against it and no fixed bug explains."""
        return sum(each.violations for each in self.found.values())

    @property
    def tried(self) -> str:
        """How often, in words."""
        trials = ", ".join(each.tried for each in self.found.values())
        models = sum(each.models for each in self.found.values())
        return f"{models:,} models compared bit for bit, in {trials}" if self.promise.get("exact") else trials

    def told(self, *, struck: bool) -> list[str]:
        """The faults that have struck at least once, or those that have not."""
        return [fault["what"] for fault in self.faults if any(self._strikes(fault)) == struck]

    def _strikes(self, fault: Mapping[str, Any]) -> Iterable[int]:
        return (each.strikes(fault.get(kind, ())) for kind, each in self.found.items())


def claims() -> list[Claim]:
    """Each promise with its evidence."""
    text, found = _text(), {exact: gathered(exact=exact) for exact in (False, True)}
    return [
        Claim(
            promise,
            {kind: found[promise.get("exact", False)][kind] for kind in promise["evidence"]},
            [text["fault"][name] for name in promise["faults"]],
        )
        for promise in text["promise"]
    ]


def gathered(*, exact: bool = False) -> dict[str, Evidence]:
    """Every kind of trial; `exact`: only where models were compared bit for bit."""
    excused = excuses()
    return {
        "simulation": trials.simulation(rows("simulation"), excused, exact=exact),
        "chaos": kills.chaos(rows("chaos"), excused, exact=exact),
        "recovery": restarts.recovery(rows("recovery"), excused),
        "tamper": trials.tamper(rows("tamper")),
        "floods": floods.floods(rows("floods")),
        "mutants": trials.planted(rows("mutants")),
    }


def excuses() -> Excuses:
    """Where each fixed bug showed, and as what."""
    return frozenset((where, what) for bug in _text()["bug"] for where, what in bug.get("excuses", ()))


def objects() -> list[dict[str, Any]]:
    """One object a promise: its fault, how often it was tried, what was found."""
    return [
        {
            "promise": claim.promise["name"],
            "sentence": claim.promise["sentence"],
            "fault": "; ".join(claim.told(struck=True)),
            "tries": claim.tries,
            "violations": claim.violations,
            "seeds": sum(each.seeds for each in claim.found.values()),
            "seconds": round(sum(each.seconds for each in claim.found.values())),
        }
        for claim in claims()
    ]


def page() -> str:
    """The page, in Markdown."""
    text, found, made = _text(), gathered(), claims()
    promises = [
        (f"**{c.promise['name']}.** {c.promise['sentence']}", c.tried, f"{c.violations}" if c.tries else "?")
        for c in made
    ]
    not_promised = [wrap_text(f"- {row['what']} {row['instead']}", indent="  ") for row in text["not_promised"]]
    sections = [
        TITLE,
        table(("promise", "tried", "broken"), promises),
        LEGEND,
        "## What was tried against each\n\n" + "\n".join(map(_against, made)),
        "How often each fault has struck:\n\n" + _strikes(text["fault"].values(), found),
        *(f"## {each.title}\n\n{each.body}\n\nAgain: `{each.command}`" for each in found.values()),
        f"## Bugs found on the way\n\n{_bugs(text['bug'])}\n\n{COMMITS}",
        "## What is not promised\n\n" + "\n".join(not_promised),
    ]
    return "\n\n".join(sections) + "\n"


def _against(claim: Claim) -> str:
    untried = claim.told(struck=False)
    tried = "; ".join(claim.told(struck=True)) or "nothing so far"
    rest = f" **Not tried yet**: {'; '.join(untried)}." if untried else ""
    return wrap_text(f"- *{claim.promise['name']}*: {tried}.{rest}", indent="  ")


def _strikes(faults: Iterable[Mapping[str, Any]], found: Mapping[str, Evidence]) -> str:
    """A line a fault; empty where it is none of this kind of trial."""
    lines = [
        (fault["what"], *(f"{found[kind].strikes(fault[kind]):,}" if kind in fault else "" for kind in KAFKA))
        for fault in faults
        if "mutants" not in fault
    ]
    return table(("fault", *KAFKA.values()), lines)


def _bugs(bugs: Sequence[Mapping[str, Any]]) -> str:
    """Each bug with what found it, its seeds, and the commit that fixed it."""
    lines = []
    for bug in bugs:
        seeds = [*([bug["seed"]] if "seed" in bug else []), *(where for where, _ in bug.get("excuses", ()))]
        lines.append((bug["what"], bug["found_by"], ", ".join(seeds), f"`{bug['commit']}`"))
    return table(("bug", "found by", "seed", "fixed in"), lines)


def _text() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name("promises.toml").read_text())


def main() -> None:
    """Write both."""
    FIGURES.parent.mkdir(exist_ok=True)
    FIGURES.write_text(json.dumps(objects(), indent=2) + "\n")
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
