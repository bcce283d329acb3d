"""How long `fedlog run` takes from nothing to its first lease, and `fedlog fleet` beside it: read from the log itself.

    python -m tests.trials.starting --pairs 5 [--against COMMIT] [--record]

With `--against` each run is paired with one of that commit, one after the other, under the same interpreter. Adds to
docs/results/starting.jsonl. The machine's load is in each row: figures of a busy one are good for their ratio alone.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil

from ops.console import say
from schemas.topics import CHECKINS, ROUNDS, SELECTIONS
from tests.bench import machine
from tests.bench.row import figure, ratios
from tests.root import ROOT
from tests.trials.results import add_row, commit

RINGS = ROOT / "docs" / "examples" / "rings.toml"
TASK, SECOND = "rings", "second"
TOPICS = (CHECKINS.name, SELECTIONS.name, ROUNDS.name)
GOAL = "first lease"
Moments = dict[str, float]


def main() -> int:
    """Time so many runs, each beside one of the other commit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--against", default="", metavar="COMMIT")
    parser.add_argument("--record", action="store_true", help="add a row to docs/results")
    asked = parser.parse_args()
    commit()
    with contextlib.ExitStack() as stack:
        other = stack.enter_context(checked_out(asked.against)) if asked.against else None
        ours: list[Moments] = []
        theirs: list[Moments] = []
        for number in range(asked.pairs):
            # The order changes from pair to pair, so that neither always finds the files in memory.
            for tree in (ROOT, other) if number % 2 else (other, ROOT):
                if tree is not None:
                    found = time_run(tree)
                    (ours if tree == ROOT else theirs).append(found)
                    say(f"{'this' if tree == ROOT else asked.against:>10}: {describe(found)}")
    row = {"pairs": asked.pairs, **tell("", ours)}
    if theirs:
        # Above 1: the other takes so many times as long.
        row |= {"against": asked.against, **tell("other_", theirs)}
        row |= {f"{what} {name}": value for what in (GOAL, "cpu") for name, value in compare(ours, theirs, what=what)}
    say(str(row))
    if asked.record:
        add_row("starting", {**row, "machine": machine.told()})
    return 0


def compare(ours: list[Moments], theirs: list[Moments], *, what: str) -> Iterator[tuple[str, float]]:
    """Median and spread of the other's time over ours."""
    yield from ratios([each[what] for each in theirs], [each[what] for each in ours]).items()


@contextlib.contextmanager
def checked_out(rev: str) -> Iterator[Path]:
    """The files of a commit, in a folder of their own."""
    with tempfile.TemporaryDirectory(prefix="fedlog-starting-") as folder:
        packed = subprocess.run(["git", "archive", rev], cwd=ROOT, capture_output=True, check=True).stdout
        subprocess.run(["tar", "-x", "-C", folder], input=packed, check=True)
        # As this one's are, or its first run would pay for the compiler.
        subprocess.run([sys.executable, "-m", "compileall", "-q", folder], check=True)
        yield Path(folder)


def time_run(tree: Path) -> Moments:
    """Seconds from the command to what the log tells of a run from nothing."""
    with tempfile.TemporaryDirectory(prefix="fedlog-starting-") as name:
        folder = Path(name) / "f"
        words = [sys.executable, "-P", "-m", "ops.terminal.cli", "--folder", str(folder)]
        environment = {**os.environ, "PYTHONPATH": str(tree)}
        changes = ["--set", "stop.versions_max=1", "--keep"]
        began_s, before_s = time.time(), count_ended_s()
        try:
            subprocess.run([*words, "run", str(RINGS), *changes], env=environment, capture_output=True, check=True)
            ended_s = time.time()
            found = list_moments(words, environment, since_s=began_s)
            found["cpu"] = figure(count_living_s(folder) + count_ended_s() - before_s)
            fleet = time_fleet(words, environment)
        finally:
            subprocess.run([*words, "stop"], env=environment, capture_output=True, check=False)
        return {**found, "end": figure(ended_s - began_s), **{f"fleet: {what}": at_s for what, at_s in fleet.items()}}


def time_fleet(words: list[str], environment: dict[str, str]) -> Moments:
    """The same of `fedlog fleet`, for a task that is there already, and beside workers that wait for it."""
    allowed = {**environment, "FEDLOG_ALLOW": "rings:model,rings:data"}
    for command in (["task", "fork", TASK, "--at", "0", "--name", SECOND], ["fleet", "--task", SECOND]):
        began_s = time.time()
        subprocess.run([*words, *command], env=allowed, cwd=RINGS.parent, capture_output=True, check=True)
    found = list_moments(words, environment, since_s=began_s, task=SECOND)
    # Its first version was there before.
    return {what: at_s for what, at_s in found.items() if at_s > 0}


def list_moments(words: list[str], environment: dict[str, str], *, since_s: float, task: str = "") -> Moments:
    """Seconds from a moment to each first record, of one task or of all."""
    # By the same release: another may have other bytes on the wire.
    asked = [*words, "events", "--json", *(["--task", task] if task else [])]
    asked += [word for topic in TOPICS for word in ("--topic", topic)]
    told = subprocess.run(asked, env=environment, capture_output=True, check=True)
    return {what: figure(at_ms / 1000 - since_s) for what, at_ms in read_moments(told.stdout.decode().splitlines())}


def read_moments(lines: Iterable[str]) -> Iterator[tuple[str, int]]:
    """What is in the log first of each kind, by the time of its record; `lines` are those of `fedlog events --json`."""
    firsts: dict[str, int] = {}
    for event in map(json.loads, lines):
        for kind in (event["event"], event["topic"]):
            firsts[kind] = min(firsts.get(kind, event["time_ms"]), event["time_ms"])
    names = {
        "selections": "selector",
        "rounds": "aggregator",
        "checkins": "first check-in",
        "ModelPublished": "version 0",
        "LeaseGranted": GOAL,
        "UpdateAdmitted": "first update",
    }
    yield from ((told, firsts[kind]) for kind, told in names.items() if kind in firsts)


def count_ended_s() -> float:
    """Seconds of processor that children have used which have ended, and theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def count_living_s(folder: Path) -> float:
    """The same of what the run has left behind."""
    used = 0.0
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("FEDLOG_FOLDER") == str(folder):
                used += sum(process.cpu_times()[:2])
    return used


def describe(found: Moments) -> str:
    """One run in a line, in the order of time."""
    return ", ".join(f"{what} {at_s:.1f}" for what, at_s in sorted(found.items(), key=lambda item: item[1]))


def tell(whose: str, runs: list[Moments]) -> dict[str, float]:
    """The medians of some runs."""
    return {f"{whose}{what}": figure(statistics.median(run[what] for run in runs)) for what in runs[0]}


if __name__ == "__main__":
    sys.exit(main())
