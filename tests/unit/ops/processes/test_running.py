"""What a run refuses before it starts anything, and what it reads of a policy's file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from typer.main import get_command

from client_agent.hostile.attacks import parse_attack
from client_agent.learning.plugins import PluginError
from client_agent.running.profiles import HabitsError
from client_agent.running.watch import LOAD_S
from client_agent.running.work import DataConflict, list_heavy
from ops.history.task_view import TaskView
from ops.operator.errors import TaskNameInvalid
from ops.processes.running import (
    SCORE_WAIT_S,
    TASK_WAIT_S,
    Run,
    RunFailed,
    RunOptions,
    ScorePatience,
    TooFewDevices,
    list_fleet_words,
    name_after,
    read_counts,
    read_policy,
    require_open_identity,
)
from ops.processes.services import list_actors
from ops.settings import resolve
from ops.terminal.cli import app
from schemas.events import VersionEvaluated
from tests.root import ROOT
from tests.worlds.builders import TASK, policy

RINGS = ROOT / "docs" / "examples" / "rings.toml"


def test_what_cannot_be_is_refused_at_once(tmp_path: Path) -> None:
    """Guarantee: a run that could never fill a round, or be found by its name, says so and starts nothing."""
    options = RunOptions(policy=read_policy(RINGS), name="rings", devices=5, cwd=RINGS.parent)
    run = Run(resolve({"folder": tmp_path / "f"}, {}), options)
    with pytest.raises(TooFewDevices, match=r"a round needs 10 .*updates_per_round=5"):
        run.__enter__()
    misnamed = Run(resolve({"folder": tmp_path / "f"}, {}), replace(options, name="Bad_Name", devices=None))
    with pytest.raises(TaskNameInvalid, match="lower-case letters"):
        misnamed.__enter__()
    elsewhere = replace(options, policy=read_policy(RINGS, ["data=ringz:data"]), devices=None)
    with pytest.raises(PluginError, match=r"'ringz:data': module 'ringz' cannot be imported .*run from the folder"):
        Run(resolve({"folder": tmp_path / "f"}, {}), elsewhere).__enter__()
    (tmp_path / "habits.toml").write_bytes(b"\xe4")
    habits = replace(options, simulate=tmp_path / "habits.toml", devices=None)
    with pytest.raises(HabitsError, match="not UTF-8"):
        Run(resolve({"folder": tmp_path / "f"}, {}), habits).__enter__()
    assert not (tmp_path / "f").exists()


def test_devices_of_a_run_wait_for_their_task() -> None:
    """Guarantee: a model that takes minutes to make, on a busy machine, does not find its fleet gone."""
    options = RunOptions(policy=read_policy(RINGS), name="rings", devices=12, cwd=RINGS.parent)
    command, *words = list_fleet_words(options)
    parsed = get_command(app).commands[command].make_context(command, words, resilient_parsing=True)  # type: ignore[attr-defined]
    assert (parsed.params["task"], parsed.params["devices"]) == ("rings", 12)
    assert parsed.params["task_wait_s"] == TASK_WAIT_S > LOAD_S


def test_a_run_under_attack_says_so_wherever_it_is_shown() -> None:
    """Guarantee: its fleet is asked for the same attack, and the name of its task says that this is a test."""
    attack, rings = parse_attack("sign_flip:0.25:2"), read_policy(RINGS)
    options = RunOptions(policy=rings, name="rings", devices=12, cwd=RINGS.parent, attack=attack)
    command, *words = list_fleet_words(options)
    parsed = get_command(app).commands[command].make_context(command, words, resilient_parsing=True)  # type: ignore[attr-defined]
    assert parse_attack(parsed.params["attack"]) == attack
    assert name_after(RINGS, attack) == "rings-under-attack-sign-flip"
    assert options.describe_attack() == "TEST UNDER ATTACK: 3 devices are hostile (sign_flip, 2)"
    assert replace(options, attack=None).describe_attack() == ""


def test_what_a_fleet_counted_is_read_from_what_it_said(tmp_path: Path) -> None:
    """Guarantee: the run that ends tells why devices could not train; a fleet that was killed has said nothing."""
    said = ["loading 20", '{"a": 1}', '{"failed": 2, "failed_for": {"no": 2}}', "rings is over."]
    (tmp_path / "fleet.log").write_text("\n".join(said))
    assert read_counts(tmp_path / "fleet.log") == {"failed": 2, "failed_for": {"no": 2}}
    (tmp_path / "fleet.log").write_text('loading 20\n{"failed_for": ')
    assert read_counts(tmp_path / "fleet.log") == {}
    assert read_counts(tmp_path / "nothing.log") == {}


def test_a_file_gives_its_task_a_name_and_its_data() -> None:
    """Guarantee: data of an option become the policy's, and never another's; a name is one that tasks may have."""
    assert name_after(Path("x/My rings_2.toml")) == "my-rings-2"
    assert name_after(Path("x/My first/policy.toml")) == "my-first"
    assert read_policy(RINGS, data="rings:data").data == "rings:data"
    with pytest.raises(DataConflict, match="other:data"):
        read_policy(RINGS, data="other:data")


def test_only_what_the_policy_needs_is_started() -> None:
    """Guarantee: without privacy no worker waits for charges; for a learner without torch nobody imports it."""
    plain = read_policy(RINGS)
    assert list_actors(plain) == ["selector", "aggregator"]
    assert list_heavy(plain) == ["client_agent.learning.pytorch.learner"]
    assert list_actors(read_policy(RINGS, ["shards=2"])) == ["selector", "aggregator", "shard"]
    private = read_policy(ROOT / "ops" / "processes" / "demo.toml", ["learner=other:Learner", "model="])
    assert list_actors(private) == ["selector", "aggregator", "privacy"]
    assert list_heavy(private) == []


def test_a_run_of_enrolled_devices_is_refused_before_anything_starts() -> None:
    """Its simulated devices have no certificate, and it would wait for them for ever."""
    require_open_identity(policy())
    with pytest.raises(RunFailed, match="fedlog enrol"):
        require_open_identity(policy(identity="enrolled"))


def test_a_score_is_waited_for_while_others_come() -> None:
    """Guarantee: an evaluator that lags behind a busy machine is waited for, and one that says nothing is not."""
    now_s, view = 0.0, TaskView(task=TASK)
    patience = ScorePatience(due_s=60.0, read_clock_s=lambda: now_s)
    for version in range(5):
        now_s = 60.0 + (version + 1) * SCORE_WAIT_S
        assert not patience.is_spent(view)
        view.evaluations[version] = VersionEvaluated(task=TASK, version=version, metrics={}, samples=1, cohort="")
        assert not patience.is_spent(view)
    now_s += SCORE_WAIT_S
    assert not patience.is_spent(view)
    now_s += 0.1
    assert patience.is_spent(view)
