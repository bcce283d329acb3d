"""`fedlog drift` on the log of a measure task: versions beside the first, beside another task, and its exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ops.processes.running import RunOptions, read_policy, seed_all
from ops.settings import resolve
from ops.terminal.cli import app
from ops.virtual.running import VirtualRun

POLICY = """
kind = "measure"
data = "client_agent.learning.examples:digits"
[measure]
plugin = "client_agent.learning.measuring.questions:histogram"
plugin_arguments = { column = "labels" }
[measure.statistics]
histogram = { bound = 1024, shape = [10] }
[clipping]
norm = 4.0
steps = 1048576
[compression]
codec = "float32"
error_feedback = false
[staleness]
rule = "constant"
[selection]
devices_expected = 40
concurrency = 30
lease_s = 3.0
retry_after_s = 0.2
[aggregation]
updates_per_round = 20
[stop]
versions_max = 3
"""


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The exported log of a task that asked forty devices three times for their labels."""
    folder = tmp_path_factory.mktemp("drift")
    (folder / "labels.toml").write_text(POLICY)
    options = RunOptions(policy=read_policy(folder / "labels.toml", seed_all(3)), name="labels", cwd=folder)
    with VirtualRun(resolve({"folder": folder / "state"}), options) as run:
        for _ in run.follow():
            pass
    assert run.log_folder is not None
    return run.log_folder


def ask(asked: Path, *words: str) -> tuple[int, str]:
    """The exit code of the command and what it says."""
    folder = str(asked.parent.parent)
    found = CliRunner().invoke(app, ["--folder", folder, "drift", "labels", "--from-files", str(asked), *words])
    return found.exit_code, found.output


def test_versions_are_told_beside_the_first(asked: Path) -> None:
    """Guarantee: every later version has both distances, and what chance gives; without drift the exit code is 0."""
    code, told = ask(asked, "--json")
    rows = [json.loads(line) for line in told.splitlines() if line.startswith("{")]
    assert [row["version"] for row in rows] == [2, 3]
    assert all(0 < row["ks"] < 1 and row["psi"] > 0 and not row["is_drift"] for row in rows)
    assert code == 0
    assert "by chance" in ask(asked)[1]


def test_a_reference_may_be_another_version_or_task(asked: Path) -> None:
    """Guarantee: a version is beside the named one; beside another task all are."""
    code, told = ask(asked, "--reference", "3")
    assert (code, "no version to compare" in told) == (0, True)
    told = ask(asked, "--against", "labels", "--json")[1]
    rows = [json.loads(line) for line in told.splitlines() if line.startswith("{")]
    assert [row["version"] for row in rows] == [1, 2, 3]
    assert rows[0]["psi"] == 0


def test_what_is_no_histogram_is_said(asked: Path) -> None:
    """Guarantee: a statistic that the task does not answer is named, with those that it does."""
    code, told = ask(asked, "--statistic", "ages")
    assert code == 2
    assert "answers histogram" in told
