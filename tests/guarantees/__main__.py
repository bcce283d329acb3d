"""Writes docs/guarantees.md and build/guarantees.json from promises.toml and what was tried; nobody edits either.

python -m tests.guarantees
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.guarantees import evidence
from tests.guarantees.evidence import Evidence

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "guarantees.md"
FIGURES = ROOT / "build" / "guarantees.json"
TITLE = """# Guarantees

What fedlog promises, what was done to break it, and what came of that. Written by `make guarantees` from the results
under [docs/results](results); never by hand."""
LEGEND = """*Broken* counts violations that no bug in the list below explains; a promise with anything but 0 there is
not kept."""


def objects() -> list[dict[str, Any]]:
    """One object a promise: its fault, how often it was tried, what was found."""
    text = _text()
    found = evidence.gathered(_explained(text))
    return [_object(promise, [found[kind] for kind in promise["evidence"]]) for promise in text["promise"]]


def page() -> str:
    """The page, in Markdown."""
    text = _text()
    found = evidence.gathered(_explained(text))
    rows = [
        "| promise | tried | broken |",
        "|---|---|---|",
        *(
            f"| **{p['name']}.** {p['sentence']} | {_tried(found[kind] for kind in p['evidence'])} | "
            f"{sum(found[kind].violations for kind in p['evidence'])} |"
            for p in text["promise"]
        ),
    ]
    faults = [f"- *{p['name']}*: {p['faults']}." for p in text["promise"]]
    not_promised = [f"- {row['what']} {row['instead']}" for row in text["not_promised"]]
    sections = [
        TITLE,
        "\n".join(rows),
        LEGEND,
        "## What was tried against each\n\n" + "\n".join(faults),
        *(f"## {each.title}\n\n{each.table}\n\nAgain: `{each.command}`" for each in found.values()),
        "## Bugs found on the way\n\n" + evidence.bug_table(text["bug"]),
        "## What is not promised\n\n" + "\n".join(not_promised),
    ]
    return "\n\n".join(sections) + "\n"


def _object(promise: dict[str, Any], found: list[Evidence]) -> dict[str, Any]:
    return {
        "promise": promise["name"],
        "sentence": promise["sentence"],
        "fault": promise["faults"],
        "tries": sum(each.tries for each in found),
        "violations": sum(each.violations for each in found),
        "seeds": sum(each.seeds for each in found),
        "seconds": round(sum(each.seconds for each in found)),
    }


def _explained(text: dict[str, Any]) -> frozenset[str]:
    return frozenset(key for bug in text["bug"] for key in bug["keys"])


def _tried(found: Iterable[Evidence]) -> str:
    return ", ".join(each.tried for each in found)


def _text() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name("promises.toml").read_text())


def main() -> None:
    """Write both."""
    FIGURES.parent.mkdir(exist_ok=True)
    FIGURES.write_text(json.dumps(objects(), indent=2) + "\n")
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
