"""Writes the tables of the history into docs/history.md, from the only place where they are described.

python -m tests.trials.history_page
"""

from __future__ import annotations

from collections.abc import Iterator

from ops.history.tables.catalogue import load_tables
from tests.root import ROOT

PAGE = ROOT / "docs" / "history.md"
HEADING = "## Tables\n"


def describe() -> Iterator[str]:
    """Each table: its meaning, and its columns with theirs."""
    for table in load_tables().values():
        yield f"\n### {table.name}\n\n{table.meaning}\n\n| column | meaning |\n|---|---|\n"
        yield from (f"| `{name}` | {meaning} |\n" for name, meaning in table.columns.items())


def write(page: str) -> str:
    """The page with its tables as they are now."""
    head, heading, rest = page.partition(HEADING)
    return head + heading + rest.partition("\n### ")[0].rstrip() + "\n" + "".join(describe())


if __name__ == "__main__":
    PAGE.write_text(write(PAGE.read_text()))
