"""`make soak`: the whole product under load with a kill a minute, into docs/results/soak.jsonl and docs/soak.md.

    python -m tests.trials.soak --minutes 60 --seed 7

Exits with 1 where something grows that may not, the replay differs, or a law is broken, and prints the command that
kills the same processes at the same moments.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
from pathlib import Path

import msgspec

from ops.console import say
from tests.trials.results import add_row, commit
from tests.trials.soak import page
from tests.trials.soak.curves import draw
from tests.trials.soak.running import Soak, run

KEPT = Path("build/soak")


def main() -> int:
    """Soak for so many minutes, and write what came of it."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10_000))
    parser.add_argument("--rate", type=float, default=0.0, help="about so many updates a second; 0 for all that it can")
    parser.add_argument("--keep", action="store_true", help="keep the folder with all logs")
    parser.add_argument("--unrecorded", action="store_true", help="add no row and write no page: of a planted fault")
    asked = parser.parse_args()
    again = f"make soak MINUTES={asked.minutes:g} SEED={asked.seed} RATE={asked.rate:g}"
    say(f"again: {again}")
    commit()  # the one that runs, whatever is checked out at the end
    scratch = Path(tempfile.mkdtemp(prefix="fedlog-soak-"))
    try:
        found = run(scratch / "f", Soak(seed=asked.seed, minutes=asked.minutes, rate=asked.rate), say=say)
    finally:
        if asked.keep:
            say(f"kept: {scratch}")
        else:
            shutil.rmtree(scratch, ignore_errors=True)
    KEPT.mkdir(parents=True, exist_ok=True)
    (KEPT / "samples.jsonl").write_bytes(b"\n".join(map(msgspec.json.encode, found.samples)))
    if not asked.unrecorded:
        _record(found)
    for row in found.rows:
        say(page.tell(row))
    for fault in found.faults:
        say(f"FAULT: {fault}")
    if found.faults:
        say(f"again: {again}")
    return bool(found.faults)


def _record(found: Soak) -> None:
    kills = [f"{kill.at_s:g} {kill.name}" for kill in found.kills]
    asked = {"minutes": found.minutes, "seed": found.seed, "rate": found.rate}
    add_row("soak", {**asked, **found.figures, "kills": kills, "rows": found.rows})
    page.PICTURE.write_text(draw(found.samples, found.kills))
    page.write()


if __name__ == "__main__":
    sys.exit(main())
