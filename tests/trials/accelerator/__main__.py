"""The torch learner on a device whose memory nobody can read past torch, beside the CPU: `make accelerator`.

No card is at hand where fedlog is made. This says what can be said without one: that every tensor gets to the device
and back, that no code of fedlog's reads one where it lies, and that what is learned is the same to the bit, because
this device computes as the CPU does. Adds a row a case to docs/results.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator

from ops.console import say
from tests.root import ROOT
from tests.trials.accelerator.building import FOLDER, build
from tests.trials.results import add_row

# So little that a large batch of a small model finds no room.
DEVICE_BYTES = 64 << 20


def main() -> int:
    """Compile, then try each part in a process that has the device; 1 where one fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="a pattern for the names of cases")
    parser.add_argument("--like", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.like:
        faults = [name for name, fault in try_all(options.only, like=options.like) if fault]
        say(f"{len(faults)} faults: {', '.join(faults)}" if faults else "No fault.")
        return 1 if faults else 0
    build()
    path = os.pathsep.join(filter(None, (str(FOLDER), os.environ.get("PYTHONPATH", ""))))
    given = {**os.environ, "PYTHONPATH": path, "APART_BYTES": str(DEVICE_BYTES)}
    words = [sys.executable, "-W", "ignore", "-m", "tests.trials.accelerator", "--only", options.only, "--like"]
    codes = [
        subprocess.run([*words, like], cwd=ROOT, env={**given, **more}, check=False).returncode
        for like, more in (("cuda", {}), ("mps", {"APART_NO_FLOAT64": "1"}))
    ]
    return max(map(abs, codes))


def try_all(only: str, *, like: str) -> Iterator[tuple[str, str]]:
    """Each case that is wanted by name, and what is wrong with it, if anything is; `like`: whose limits it has."""
    import torch

    from tests.trials.accelerator import learning, running

    checks = learning.list_checks(has_float64=like == "cuda")
    if like == "cuda":
        checks |= running.list_checks()
    for name, check in checks.items():
        if not re.search(only, name):
            continue
        fault, told = _try(check)
        say(f"  {'NO' if fault else 'yes'}: {name}, like {like}{f': {fault}' if fault else ''}")
        add_row("accelerator", {"case": name, "like": like, "right": not fault, "torch": torch.__version__, **told})
        yield name, fault


def _try(check: Callable[[], dict[str, object]]) -> tuple[str, dict[str, object]]:
    try:
        return "", check()
    # Whatever a case raises is its fault, and the others are tried.
    except Exception as error:  # noqa: BLE001
        return f"{type(error).__name__}: {error}"[:600], {}


if __name__ == "__main__":
    sys.exit(main())
