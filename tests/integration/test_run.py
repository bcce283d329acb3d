"""`fedlog run`, as a newcomer types it: an embedded Kafka of its own, the example of the README, and a score."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ops.broker_state import find_running
from ops.processes.started import MARK, read_records
from tests.root import ROOT

RINGS = ROOT / "docs" / "examples" / "rings.toml"
# What a program is told that runs a cell twice.
AGAIN = """
try:
    fedlog.run("rings.toml", name="first")
except Exception as error:
    print("Refused:", error)
"""


def command(folder: Path, *words: str) -> list[str]:
    """`fedlog run` of the example in this folder."""
    return [sys.executable, "-P", "-m", "ops.terminal.cli", "--folder", str(folder), "run", str(RINGS), *words]


def assert_nothing_is_left(folder: Path) -> None:
    """No process that a run of this folder has started lives, whoever its parent is."""
    assert list(read_records(folder)) == []
    assert find_running(folder / "broker") is None
    environments = (read_environment(path) for path in Path("/proc").glob("[0-9]*/environ"))
    assert [one for one in environments if f"{MARK}=" in one and f"FEDLOG_FOLDER={folder}\0" in one] == []


def assert_the_history_was_kept(folder: Path) -> None:
    """Up to the end of the run, which nobody can read any more: its broker has ended."""
    sql = "SELECT status, version, (SELECT count(*) FROM updates WHERE outcome = 'admitted') AS admitted FROM tasks"
    words = [sys.executable, "-P", "-m", "ops.terminal.cli", "--folder", str(folder), "query", sql, "--json"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"status": "halted: versions_max", "version": 4, "admitted": 40}, done.stderr
    assert "as it is" in done.stderr
    assert not list(folder.glob("*.sock"))


def assert_the_documented_lines_work(folder: Path) -> None:
    """The blocks of docs/python.md, one after the other, as the cells of a notebook; and a second run of the name."""
    for name in ("rings.py", "rings.toml"):
        shutil.copy(RINGS.with_name(name), folder)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text(), re.DOTALL)
    settings = {**os.environ, "FEDLOG_FOLDER": str(folder)}
    lines = "\n".join([*blocks, AGAIN])
    done = subprocess.run(
        [sys.executable, "-c", lines], cwd=folder, env=settings, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "['first', 'rings']" in done.stdout
    # In the words of the library: an option of the command, such as --name, would help nobody there.
    refused = done.stdout.splitlines()[-1]
    assert refused.startswith("Refused: There is a task 'first' already (halted: versions_max, version 2)"), refused
    assert 'name="first-2"' in refused
    assert "--" not in refused
    assert_nothing_is_left(folder)


def read_environment(path: Path) -> str:
    """What the system says of a process; nothing of one that has ended."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


@pytest.mark.timeout(480)
def test_one_command_from_nothing_to_a_score(tmp_path: Path) -> None:
    """Rolled out, the example reaches its score by as many evaluators as its policy asks for, and the log is kept.

    A second run of the name is told so.
    """
    sets = ("stop.versions_max=4", "selection.lease_s=60", "evaluation.quorum=2", "rollout.stages=[{share=1.0}]")
    changes = (*(word for one in sets for word in ("--set", one)), "--seed", "3", "--json")
    done = subprocess.run(command(tmp_path, *changes), cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["status"] == "halted: versions_max"
    assert told["version"] == 4
    assert len(told["curve"]) == 5
    assert told["score"] > told["curve"][0]
    assert told["updates_admitted"] == 40
    assert "version 4 of 4 (100 %)" in done.stderr
    assert_nothing_is_left(tmp_path)
    assert_the_history_was_kept(tmp_path)
    assert_the_documented_lines_work(tmp_path)
    again = subprocess.run(command(tmp_path), cwd=tmp_path, capture_output=True, text=True, check=False)
    assert again.returncode == 1
    assert "--name rings-2" in again.stderr
    assert_nothing_is_left(tmp_path)


@pytest.mark.parametrize(("line", "number"), [("Kafka answers", signal.SIGINT), ("Starting: fleet", signal.SIGTERM)])
def test_an_interrupted_run_leaves_nothing_behind(tmp_path: Path, line: str, number: int) -> None:
    """Ctrl-C while the broker, or all the services, are starting ends every process of the run."""
    running = subprocess.Popen(
        # A shell has its commands in the background ignore Ctrl-C, and the test runner may be one of them.
        ["env", "--default-signal=INT", *command(tmp_path)],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert running.stdout is not None
    for said in running.stdout:
        if line in said:
            os.kill(running.pid, number)
    assert running.wait() == 130
    assert_nothing_is_left(tmp_path)
