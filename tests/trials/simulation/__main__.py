"""The two verbs: `python -m tests.trials.simulation run SEED` and `python -m tests.trials.simulation sweep`."""

from __future__ import annotations

import argparse
import sys

from tests.trials.results import add_row
from tests.trials.simulation.faults import KINDS
from tests.trials.simulation.sweep import KIND, STEPS, next_seed, shrunk, simulate, swept


def main() -> int:
    """0 when every law held."""
    parser = argparse.ArgumentParser(prog="python -m tests.trials.simulation")
    verbs = parser.add_subparsers(dest="verb", required=True)
    run = verbs.add_parser("run", help="one seed; what fails is shrunk")
    run.add_argument("--seed", type=int, required=True)
    run.add_argument("--steps", type=int, default=STEPS)
    run.add_argument("--off", default="", help=f"kinds of faults to leave out, by commas: {', '.join(KINDS)}")
    sweep = verbs.add_parser("sweep", help="seeds that no sweep has run yet, on every core; adds a row to the results")
    sweep.add_argument("--minutes", type=float, default=1.0)
    sweep.add_argument("--jobs", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.verb == "run":
        off = [kind.strip() for kind in arguments.off.split(",") if kind.strip()]
        return _run(arguments.seed, arguments.steps, off)
    return _sweep(arguments.minutes, arguments.jobs)


def _run(seed: int, steps: int, off: list[str]) -> int:
    story = simulate(seed, steps, off=off)
    _say(f"seed {seed}, {steps} steps, journals {story.digest[:16]}")
    _say(", ".join(f"{kind} {count}" for kind, count in sorted(story.hits.items())))
    for fault in story.faults:
        _say(f"FAULT {fault}")
    if story.faults:
        short = shrunk(story, off=off)
        _say("\n".join(short.story.trace))
        _say(f"the shortest prefix that still fails has {short.story.steps} steps: {short.story.faults[0]}")
        _say(f"repeat with: {short.command}")
    return bool(story.faults)


def _sweep(minutes: float, jobs: int) -> int:
    found = swept(next_seed(), seconds=60 * minutes, jobs=jobs)
    row = found.row
    add_row(KIND, row)
    _say(f"{row['seeds']} seeds from {row['first_seed']}, {row['seeds_per_minute']} a minute")
    for violation in row["violations"]:
        _say(f"FAULT in seed {violation['seed']}: {violation['fault']}")
        _say(f"repeat with: make sim SEED={violation['seed']} STEPS={violation['steps']}")
    return bool(row["violations"])


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
