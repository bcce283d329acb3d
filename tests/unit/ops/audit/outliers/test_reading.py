"""Outliers of a recorded task: its attackers are named, and nobody looks where that is not allowed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from msgspec.structs import replace as replace_fields
from typer.testing import CliRunner

from client_agent.hostile.attacks import parse_attack
from client_agent.hostile.crew import choose_attackers
from ops.audit.outliers.reading import ELEMENTS_MAX, LookingRefused, require_open_updates
from ops.processes.running import RunOptions, read_policy, seed_all
from ops.settings import resolve
from ops.terminal.cli import app
from ops.virtual.fleet import derive_identity
from ops.virtual.running import VirtualRun
from tests.worlds.builders import policy, task_created

POLICY = """
model = "client_agent.learning.models:softmax_regression"
model_arguments = { inputs = 64, classes = 10 }
data = "client_agent.learning.examples:digits"
[training]
learning_rate = 0.1
[selection]
devices_expected = 20
concurrency = 16
lease_s = 3.0
retry_after_s = 0.2
[aggregation]
updates_per_round = 10
rule = "median"
[robust]
attackers_max = 3
[clipping]
norm = 4.0
[stop]
versions_max = 8
"""
ATTACK = parse_attack("gaussian:0.15")


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, set[str]]:
    """The exported log of a task with three attackers of twenty, and the ids of these."""
    folder = tmp_path_factory.mktemp("outliers")
    (folder / "digits.toml").write_text(POLICY)
    rules = read_policy(folder / "digits.toml", seed_all(5))
    options = RunOptions(policy=rules, name="digits", cwd=folder, attack=ATTACK)
    with VirtualRun(resolve({"folder": folder / "state"}), options) as run:
        for _ in run.follow():
            pass
    assert run.log_folder is not None
    places = choose_attackers(ATTACK, 20, seed=5)
    return run.log_folder, {_derive(place) for place in places}


def _derive(place: int) -> str:
    class Work:
        class seeds:  # noqa: N801 - as the field of the real one
            habits = 5

    return derive_identity(Work, place, name="x").device  # type: ignore[arg-type]


def test_attackers_are_named(attacked: tuple[Path, set[str]]) -> None:
    """Guarantee: devices that send noise as long as the clip are the first, and no honest one is named with them."""
    folder, hostile = attacked
    words = ["--folder", str(folder.parent.parent), "devices", "digits", "--outliers", "--from-files", str(folder)]
    found = CliRunner().invoke(app, [*words, "--json"])
    assert found.exit_code == 0, found.output
    told = json.loads(found.stdout.splitlines()[-1])
    named = {one["device"] for one in told["devices"] if one["is_outlier"]}
    enough = {one["device"] for one in told["devices"] if one["rounds"] >= 3}
    assert named == hostile & enough
    assert named
    assert told["rounds_lost"] == 0
    people = CliRunner().invoke(app, words)
    assert "stands out" in people.output


def test_nobody_looks_where_updates_are_hidden() -> None:
    """Guarantee: private, sealed and measure tasks are refused by name, and so is what would not fit into memory."""
    private = task_created(policy(privacy={"noise_multiplier": 1.0, "rho_max": 50.0}))
    with pytest.raises(LookingRefused, match="is private"):
        require_open_updates(private)
    plain = task_created(policy())
    require_open_updates(plain)
    with pytest.raises(LookingRefused, match="tier = 'sealed'"):
        require_open_updates(replace_fields(plain, policy=replace_fields(plain.policy, tier="sealed")))
    huge = replace_fields(plain.policy.aggregation, updates_per_round=ELEMENTS_MAX)
    with pytest.raises(LookingRefused, match="elements"):
        require_open_updates(replace_fields(plain, policy=replace_fields(plain.policy, aggregation=huge)))
