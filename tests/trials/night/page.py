"""docs/night.md from the newest row of each fault; never edited by hand."""

from __future__ import annotations

from pathlib import Path

from tests.bench.pages.text import table
from tests.root import ROOT
from tests.trials.results import rows

PAGE, TEXT = ROOT / "docs" / "night.md", Path(__file__).with_name("night.md")


def write() -> None:
    """The text with the table in it."""
    newest = {row["fault"]: row for row in rows("night")}
    lines = [
        [
            row["fault"],
            *(_tell(row["seconds"].get(name)) for name in ("doctor", "alert", "page")),
            "yes" if row["found"] else "**no**",
            row["what"],
            f"{row['mended_s']:.0f}",
            row["commit"],
        ]
        for row in newest.values()
    ]
    head = ["fault", "doctor, s", "alert, s", "page, s", "within a minute", "what is said", "calm again, s", "commit"]
    PAGE.write_text(TEXT.read_text().replace("<!-- faults -->", table(head, lines)))


def _tell(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds:.0f}"
