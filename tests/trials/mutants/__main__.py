"""Who checks the checkers: plants each fault of table.toml in a copy of the source, and runs the test that must see it.

    python -m tests.trials.mutants [--only WORDS] [--new]

A test that is red without the fault proves nothing, so each runs once on the untouched copy first; the mutants of one
that is red are not tried. Killed means that pytest ran and a test failed; a mutant that cannot be imported, or a test
that never ends, is an error and not a kill. The time that a test may take is that of a machine which does nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.root import ROOT
from tests.trials.mutants.table import Mutant, mutants
from tests.trials.results import add_row, rows

TEST_SECONDS_MAX = 30.0
PATIENCE_S = 15.0
VERDICTS = {0: "survived", 1: "killed"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a mutant; `by` is the first test that failed."""

    verdict: str
    by: str
    seconds: float


@contextmanager
def source() -> Iterator[Path]:
    """A copy of the files that git knows, so that a mutant never stands in anybody's way."""
    command = ["git", "ls-files", "-co", "--exclude-standard", "-z"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    with tempfile.TemporaryDirectory(prefix="fedlog-mutants-") as folder:
        for name in filter(None, names.stdout.decode().split("\0")):
            if (ROOT / name).is_file():
                (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, Path(folder) / name)
        yield Path(folder)


@contextmanager
def planted(mutant: Mutant, tree: Path) -> Iterator[None]:
    """The mutant's fault in `tree`, and the honest source again afterwards."""
    path = tree / mutant.file
    honest = path.read_text()
    path.write_text(mutant.applied(honest))
    try:
        yield
    finally:
        path.write_text(honest)


def slowness() -> float:
    """How many times as long everything takes, by the processes that want each core of this machine."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def judged(test: str, tree: Path) -> Verdict:
    """Run one test in `tree`."""
    times = slowness()
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--durations=0", *test.split()]
    own = {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", "PATIENCE_S": f"{PATIENCE_S * times:.0f}"}
    begun_s = time.monotonic()
    child = subprocess.Popen(
        command,
        cwd=tree,
        env=os.environ | own,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        said = child.communicate(timeout=TEST_SECONDS_MAX * times)[0].decode(errors="replace")
    except subprocess.TimeoutExpired:
        _end(child)
        return Verdict("too slow", "", time.monotonic() - begun_s)
    failed = [line[7:].split(" - ")[0].strip() for line in said.splitlines() if line.startswith("FAILED ")]
    verdict = VERDICTS.get(child.returncode, "error")
    if verdict == "error" or (verdict == "killed" and not failed):
        return Verdict("error", said.strip().splitlines()[-1] if said.strip() else "", time.monotonic() - begun_s)
    return Verdict(verdict, failed[0] if failed else "", time.monotonic() - begun_s)


def _end(child: subprocess.Popen[bytes]) -> None:
    """Interrupt it as a user would, so that it stops the broker that it has started; then make sure."""
    child.send_signal(signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        child.communicate(timeout=TEST_SECONDS_MAX)
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.communicate()


def main() -> int:
    """Try every mutant, keep a row of each, and tell whether all have died."""
    parser = argparse.ArgumentParser(prog="python -m tests.trials.mutants")
    parser.add_argument("--only", default="", help="mutants with these words in their name")
    parser.add_argument("--new", action="store_true", help="mutants that were never tried")
    asked = parser.parse_args()
    tried = {row["mutant"] for row in rows("mutants")} if asked.new else set()
    chosen = [mutant for mutant in mutants() if asked.only in mutant.name and mutant.name not in tried]
    with source() as tree:
        red = {test for test in dict.fromkeys(m.test for m in chosen) if judged(test, tree).verdict != "survived"}
        verdicts = [_tried(mutant, tree) for mutant in chosen if mutant.test not in red]
    if red:
        sys.stderr.write(f"These fail, or take too long, without any mutant: {', '.join(sorted(red))}\n")
    killed = verdicts.count("killed")
    sys.stdout.write(json.dumps({"mutants": len(chosen), "killed": killed}) + "\n")
    return 2 if red else int(killed < len(chosen))


def _tried(mutant: Mutant, tree: Path) -> str:
    """Plant one, tell and keep what came of it."""
    with planted(mutant, tree):
        found = judged(mutant.test, tree)
    sys.stdout.write(f"{found.verdict:9} {found.seconds:5.1f} s  {mutant.name}  ({found.by})\n")
    sys.stdout.flush()
    row = {"mutant": mutant.name, "promise": mutant.promise, "verdict": found.verdict, "by": found.by}
    add_row("mutants", {**row, "seconds": round(found.seconds, 1)})
    return found.verdict


if __name__ == "__main__":
    raise SystemExit(main())
