"""Whole runs with the device, as a user begins them: one that trains, one that finds no room, one without a card."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.root import ROOT

FEDLOG = [sys.executable, "-P", "-m", "ops.terminal.cli"]
PATIENCE_S = 300.0
# The fleet's two processes and the evaluator.
PROCESSES_MIN = 3
# Half of the rings' points are in each class.
SCORE_MIN = 0.75
Found = dict[str, object]


def list_checks() -> dict[str, Callable[[], Found]]:
    """By name; each raises where something is wrong, and gives what is worth keeping."""
    return {
        "fedlog run": check_run,
        "fedlog run without memory": check_short_run,
        "fedlog run without a card": check_missing,
    }


def check_run() -> Found:
    """Fleet and evaluator compute there, and the rings are told apart, as on the CPU."""
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace"
        told = json.loads(_run(folder, "privateuseone", APART_TRACE=str(trace)).stdout)
        processes = len(set(trace.read_text().split()))
        plain = json.loads(_run(folder, "cpu", name="plain").stdout)
    assert told["status"] == plain["status"], told["status"]
    assert not told["fleet"]["reasons"], told["fleet"]["reasons"]
    assert processes >= PROCESSES_MIN, f"only {processes} processes have computed there"
    # Of two runs each takes its updates as they come: their scores are up to a tenth apart, wherever they compute.
    assert min(told["score"], plain["score"]) > SCORE_MIN, f"{told['score']}, and {plain['score']} on the CPU"
    return {"score": told["score"], "cpu": plain["score"], "processes": processes, "seconds": told["seconds"]}


def check_short_run() -> Found:
    """Every lease is given up with words, the run ends by itself, and says why."""
    with tempfile.TemporaryDirectory() as folder:
        # Less than one module and its gradients take.
        done = _run(folder, "privateuseone", "--set", "stop.idle_s=20", APART_BYTES="4096")
        said = done.stdout + done.stderr
    assert done.returncode not in (0, 70), f"exit code {done.returncode}"
    for word in ("too little memory on apart", "--accelerator cpu"):
        assert word in said, said[-1500:]
    return {"exit": done.returncode, "told": _find_line(said, "too little memory")}


def check_missing() -> Found:
    """A card that is not there is told before anything trains, by what it was called, and nothing is left running."""
    found: Found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in ("cuda", "mps"):
            done = _run(folder, name, name=f"without-{name}")
            assert done.returncode not in (0, 70), f"{name}: exit code {done.returncode}"
            line = _find_line(done.stderr, f"accelerator '{name}'")
            assert "choose accelerator cpu" in done.stderr, done.stderr[-1500:]
            assert "Kafka" not in done.stderr, "something was started before"
            found |= {name: line, f"{name}_exit": done.returncode}
        left = subprocess.run(["pgrep", "-f", folder], capture_output=True, text=True, check=False).stdout.split()
    assert not left, f"left running: {left}"
    return found


def _run(folder: str, accelerator: str, *words: str, name: str = "rings", **environment: str) -> Any:
    for file in ("rings.py", "rings.toml"):
        shutil.copy(ROOT / "docs" / "examples" / file, folder)
    given = [
        "--folder",
        f"{folder}/log",
        "run",
        "rings.toml",
        "--name",
        name,
        "--accelerator",
        accelerator,
        "--no-page",
    ]
    return subprocess.run(
        [*FEDLOG, *given, "--json", *words],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def _find_line(text: str, word: str) -> str:
    return next((line.strip() for line in text.splitlines() if word in line), "")[:300]
