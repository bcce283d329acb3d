"""`make robustness`: what attackers do to each rule, into docs/results/robustness.jsonl and docs/robustness.md.

    python -m tests.trials.robustness [--minutes 10] [--only alie] [--whole] [--page]

Each row is one training; what has a row already is not trained again, so that a table can be made in pieces.
"""

from __future__ import annotations

import argparse
import sys
import time

import torch

from tests.trials.results import add_row, commit, rows
from tests.trials.robustness import page
from tests.trials.robustness.arena import fight
from tests.trials.robustness.cells import KIND, Cell, list_cells
from tests.trials.robustness.whole import fight_on_the_log, list_whole


def main() -> int:
    """Train what has no row yet, for so many minutes, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m tests.trials.robustness")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--only", default="", help="those whose data, rule or attack is this")
    parser.add_argument("--whole", action="store_true", help="train some through the whole log as well")
    parser.add_argument("--page", action="store_true", help="write the page alone")
    asked = parser.parse_args()
    commit()  # the one that runs, whatever is checked out at the end
    torch.set_num_threads(1)
    end_s = time.monotonic() + asked.minutes * 60
    known = {Cell.read(row) for row in rows(KIND) if "whole" not in row}
    missing = [cell for cell in list_cells() if cell not in known and asked.only in {"", *cell.words}]
    for number, cell in enumerate([] if asked.page else missing, 1):
        if time.monotonic() > end_s:
            print(f"{len(missing) - number + 1} left; the same command goes on")  # noqa: T201
            break
        found = fight(cell)
        add_row(KIND, {**cell.describe(), **found})
        print(f"{number}/{len(missing)} {cell}: {found}", flush=True)  # noqa: T201
    if asked.whole:
        for cell in list_whole():
            add_row(KIND, {**cell.describe(), **fight_on_the_log(cell)})
    page.write(rows(KIND))
    return 0


if __name__ == "__main__":
    sys.exit(main())
