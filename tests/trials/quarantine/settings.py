"""What other settings of a table [quarantine] find, and whom they set apart who is honest; into docs/robustness.md."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tests.bench.pages.text import table
from tests.trials.quarantine.cells import ATTACKS

_HEAD = ("stands apart in", "from z", *ATTACKS, "minority, nobody attacks", "minority, attacked", "majority")


def tell_settings(rows: Iterable[dict[str, Any]]) -> str:
    """A line for each setting: attackers out by attack, and honest devices out, over all seeds."""
    newest = {(tuple(row["setting"]), row["attack"], row["seed"]): row for row in rows if "setting" in row}
    lines = []
    for setting in dict.fromkeys(key[0] for key in newest):
        own = [row for key, row in newest.items() if key[0] == setting]
        rounds, window, z = setting
        attacked = [row for row in own if row["attack"]]
        lines.append(
            [
                f"{rounds} of {window}",
                str(z),
                *(_sum("hostile", [row for row in own if row["attack"] == attack]) for attack in ATTACKS),
                _sum("minority", [row for row in own if not row["attack"]]),
                _sum("minority", attacked),
                _sum("majority", own),
            ]
        )
    return table(_HEAD, lines) if lines else "Not measured yet."


def _sum(group: str, rows: list[dict[str, Any]]) -> str:
    return f"{sum(row[f'{group}_out'] for row in rows)} of {sum(row[f'{group}_of'] for row in rows)}"
