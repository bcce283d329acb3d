"""Changes an exported log at random, again and again; every change must be found, with the place where.

    python -m tests.trials.tamper [--count N] [--seed SEED] [--only NUMBER]

`--only` tries one change of a seed and shows what it was and how it was found.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.trials.results import add_row, commit
from tests.trials.tamper.bench import Bench, command


def main() -> int:
    """Try so many changes, add one row to docs/results/tamper.jsonl, and tell whether all were found."""
    parser = argparse.ArgumentParser(prog="python -m tests.trials.tamper")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**31))
    parser.add_argument("--only", type=int)
    given = parser.parse_args()
    commit()  # the one that runs, whatever is checked out at the end
    begun_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fedlog-tamper-") as folder:
        bench = Bench(Path(folder), seed=given.seed)
        if given.only is not None:
            tried = bench.tried(given.only)
            sys.stdout.write(f"{tried.kind}: {tried.what}\nfound by {tried.by or 'nobody'}: {tried.told}\n")
            return 0 if tried.by else 1
        print(f"seed {given.seed}: {given.count} changes of {bench.records} records", flush=True)  # noqa: T201
        tries = [bench.tried(number) for number in range(given.count)]
    missed = [(number, tried) for number, tried in enumerate(tries) if not tried.by]
    for number, tried in missed:
        sys.stdout.write(f"NOT FOUND {tried.kind}: {tried.what} {tried.told}\n    {command(given.seed, number)}\n")
    kinds = sorted({tried.kind for tried in tries})
    row = {
        "seed": given.seed,
        "seconds": round(time.monotonic() - begun_s, 1),
        "mutations": {kind: sum(tried.kind == kind for tried in tries) for kind in kinds},
        "found": {kind: sum(tried.kind == kind and bool(tried.by) for tried in tries) for kind in kinds},
        "found_by": dict(sorted(Counter(tried.by for tried in tries if tried.by).items())),
        "missed": [{"number": number, "kind": tried.kind, "what": tried.what} for number, tried in missed],
    }
    add_row("tamper", row)
    sys.stdout.write(f"{len(tries) - len(missed)} of {len(tries)} found; by {row['found_by']}\n")
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
