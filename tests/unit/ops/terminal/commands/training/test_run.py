"""What `fedlog run` says at its end."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
from typer.testing import CliRunner

from client_agent.running.loop import Stats
from ops.history.task_view import TaskView, evolve
from ops.operator.tasks import summarize
from ops.terminal.cli import app
from ops.terminal.commands.training.run import (
    REASONS_SHOWN_MAX,
    _print_end,
    _print_troubles,
    _require_success,
    lay_out,
)
from ops.terminal.errors import ConsoleError
from schemas.events import TaskHalted
from tests.worlds.ops_journal import TASK, created, policy


@pytest.mark.parametrize(
    ("parameters", "is_told"), [({}, False), ({"local": ["head.*"]}, True), ({"buffers": "local"}, True)]
)
def test_the_score_of_a_personal_model_is_explained(
    parameters: dict[str, object], capsys: pytest.CaptureFixture[str], *, is_told: bool
) -> None:
    """Guarantee: where devices keep arrays of their own, the evaluator's score is not left to look like theirs."""
    view = TaskView(TASK)
    evolve(view, created(policy=policy(parameters=parameters)), time_ms=5)
    _print_end(view, {**summarize(view), "metric": None, "score": None, "curve": [], "seconds": 1.0})
    assert (f"fedlog measure {TASK}" in capsys.readouterr().out) == is_told


def test_a_test_under_attack_ends_as_one(capsys: pytest.CaptureFixture[str]) -> None:
    """Guarantee: whoever reads a score that attackers have made reads of the attackers first."""
    view = TaskView(TASK)
    evolve(view, created(), time_ms=5)
    told = {**summarize(view), "metric": "accuracy", "score": 0.4, "curve": [], "seconds": 1.0}
    _print_end(view, told, warning="TEST UNDER ATTACK: 3 devices are hostile (ipm, 1)")
    assert capsys.readouterr().out.strip().startswith("TEST UNDER ATTACK: 3 devices are hostile (ipm, 1).")


def test_devices_that_could_not_train_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Guarantee: a good score hides no device that failed: each reason is told with how often."""
    _print_troubles(asdict(Stats(devices=4, trained=9, admitted=9)))
    _print_troubles({})
    assert capsys.readouterr().out == ""
    many = {f"reason {place}": 1 for place in range(REASONS_SHOWN_MAX + 1)}
    _print_troubles(asdict(Stats(devices=4, failed=1, given_up=5, failed_for={"no sensor": 1}, reasons=many)))
    said = capsys.readouterr().out
    assert "Of 4 devices not all could train: 1 devices failed, 5 leases were given up, because" in said
    assert "     1 × no sensor\n" in said
    assert "and for 2 more reasons" in said


def test_a_task_that_failed_names_the_logs(tmp_path: Path) -> None:
    """Guarantee: a run that ends for want of updates names where its devices' own words are, if there are any."""
    view = TaskView(TASK)
    evolve(view, created(), time_ms=5)
    _require_success(view, logs=tmp_path)
    view.halted = TaskHalted(task=TASK, reason="idle", version=0)
    with pytest.raises(ConsoleError, match=f"halted: idle, at version 0. What .* is in {tmp_path}"):
        _require_success(view, logs=tmp_path)
    with pytest.raises(ConsoleError, match=r"at version 0\.$"):
        _require_success(view, logs=tmp_path / "logs")


@pytest.mark.parametrize("other", ["--deterministic", "--bootstrap-servers"])
def test_doors_are_of_the_embedded_broker(other: str, tmp_path: Path) -> None:
    """Whoever asks for doors where there is no broker of ours hears so before anything is started."""
    words = [other] if other == "--deterministic" else [other, "kafka:9092"]
    ran = CliRunner().invoke(app, ["--folder", str(tmp_path), "run", "policy.toml", "--secure", *words])
    assert ran.exit_code == 2
    assert other in ran.stderr


def test_what_to_try_next_fits_the_terminal() -> None:
    """Guarantee: a command is followed by what it is for, or has it above; it is never pushed into a second line."""
    commands = {"  fedlog task show rings": "what has happened", "  fedlog broker stop": ""}
    wide = ["  fedlog task show rings  # what has happened", "  fedlog broker stop"]
    assert list(lay_out(commands, columns=80)) == list(lay_out(commands, columns=None)) == wide
    assert list(lay_out(commands, columns=40)) == ["  # what has happened", *commands]
