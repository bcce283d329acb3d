"""Ctrl-C and kill -9 at random moments of `fedlog run`: whatever it has started by then, nothing is left.

    python -m tests.trials.interrupts --count 20 --seed 1

Each moment prints a line; the first that leaves a process behind ends with exit code 1 and the one command that tries
it again.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ops.broker_state import find_running
from ops.console import say
from ops.processes.started import Started, read_records
from tests.root import ROOT

LATEST_S = 40.0
GONE_S = 60.0
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL, signal.SIGHUP)


def strike(folder: Path, *, after_s: float, number: signal.Signals) -> str:
    """Start a run, hit it once; what is left afterwards, in words, or nothing."""
    # As in a terminal, wherever this program itself was started from.
    words = ["env", "--default-signal=INT,HUP", sys.executable, "-P", "-m", "ops.terminal.cli", "--folder", str(folder)]
    run = subprocess.Popen(
        [*words, "run", str(ROOT / "docs" / "examples" / "rings.toml")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        run.wait(after_s)
    except subprocess.TimeoutExpired:
        run.send_signal(number)
    marks = list(read_records(folder))
    run.wait()
    give_up_s = time.monotonic() + GONE_S
    # Of a run that was killed its guardian ends the rest, a moment later.
    while (left := describe_left(folder, marks)) and time.monotonic() < give_up_s:
        time.sleep(0.2)
    return left


def describe_left(folder: Path, marks: list[Started]) -> str:
    """Processes and records of these runs; nothing when there are none."""
    found = [process for mark in marks for process in mark.list_processes()]
    records = list(read_records(folder))
    broker = find_running(folder / "broker")
    return f"{found} {records} {broker}" if found or records or broker else ""


def main() -> int:
    """Try so many moments; 1 where one of them left something behind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    for moment in range(options.count):
        draw = random.Random(f"{options.seed}/{moment}")
        after_s, number = draw.uniform(0, LATEST_S), draw.choice(SIGNALS)
        with tempfile.TemporaryDirectory() as folder:
            left = strike(Path(folder) / "f", after_s=after_s, number=number)
        say(f"moment {moment}: {number.name} after {after_s:.1f} s: {left or 'nothing is left'}")
        if left:
            say(f"again: python -m tests.trials.interrupts --count {moment + 1} --seed {options.seed}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
