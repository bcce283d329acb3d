"""How `fedlog fleet` ends: over is what the server has closed, and devices that failed are no success."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from client_agent.hostile.attacks import parse_attack
from client_agent.running.fleet import FleetOptions
from client_agent.running.loop import Stats
from ops.history.task_view import TaskView
from ops.operator.errors import TaskUnknown
from ops.terminal.commands.training.fleet import Patience, _describe, _is_trained, _keep_over, _read_over
from ops.terminal.commands.training.progress import tell_end
from ops.terminal.errors import ConsoleError
from tests.worlds.ops_journal import created


def test_a_fleet_whose_devices_all_failed_is_not_over(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 1, how many failed and the first reason; nobody has heard that the task is over, so nobody says so."""
    with pytest.raises(ConsoleError, match=r"4 of 4 devices failed\. The first: sim0-1: no module 'dig'") as found:
        tell_end("dig", Stats(devices=4, failed=4, error="sim0-1: no module 'dig'"))
    assert found.value.exit_code == 1
    assert capsys.readouterr().err == ""


def test_one_device_that_failed_is_told_too(capsys: pytest.CaptureFixture[str]) -> None:
    """The task is over for the others, and a script still learns that something was wrong."""
    with pytest.raises(ConsoleError, match="1 of 4 devices failed"):
        tell_end("dig", Stats(devices=4, closed=3, failed=1, error="sim0-00001: the disk is full"))
    assert capsys.readouterr().err == "dig is over.\n"


def test_a_task_that_is_over_is_a_success(capsys: pytest.CaptureFixture[str]) -> None:
    """Every device heard it from the server."""
    tell_end("dig", Stats(devices=4, closed=4))
    assert capsys.readouterr().err == "dig is over.\n"


def test_a_hostile_fleet_calls_itself_one(tmp_path: Path) -> None:
    """Guarantee: each of its lines begins with the attack, and with the word that this is a test."""
    plain = FleetOptions(task="dig", open_link=lambda _: pytest.fail("nobody connects"), folder=tmp_path, devices=20)
    assert _describe(plain) == "fleet of 20 for dig"
    hostile = replace(plain, attack=parse_attack("ipm:0.2"))
    assert _describe(hostile) == "TEST UNDER ATTACK (ipm:0.2:0.5): fleet of 20 for dig"


def test_a_missing_task_is_named_and_then_given_up(capsys: pytest.CaptureFixture[str]) -> None:
    """Guarantee: a fleet of no task says so at once, with the name that may be meant, and ends; a known one goes on."""
    missing = TaskView("ringz")
    Patience("ringz", ["rings"], wait_s=60.0).look(missing)
    assert "There is no task 'ringz' yet; waiting 60 s for it. Did you mean 'rings'?" in capsys.readouterr().err
    with pytest.raises(TaskUnknown, match=r"no task 'ringz'\. Did you mean 'rings'\?"):
        Patience("ringz", ["rings"], wait_s=0.0).look(missing)
    capsys.readouterr()
    # Its creation may be read a moment later than its name.
    # On a busy machine much later.
    Patience("rings", ["rings"], wait_s=-1.0).look(TaskView("rings"))
    assert capsys.readouterr().err == ""
    Patience("rings", ["rings"], wait_s=0.0).look(TaskView("rings", created=created("rings")))


def test_a_fleet_that_reads_no_journal_remembers_what_is_over(tmp_path: Path) -> None:
    """Guarantee: a task that its devices were told is over is not taken again, nor one for which nobody has tokens."""
    options = FleetOptions(task="dig", open_link=lambda _: pytest.fail("nobody connects"), folder=tmp_path)
    _keep_over(options, Stats(devices=4, closed=0, failed=4))
    assert _read_over(options) == ()
    for _ in range(2):
        _keep_over(options, Stats(devices=4, closed=4))
    assert _read_over(replace(options, task="")) == ("dig",)
    view = TaskView("dig", created=created("dig"))
    assert _is_trained(view, over=(), has_tokens=False)
    assert not _is_trained(view, over=("dig",), has_tokens=True)
    enrolled = replace_policy(view, identity="enrolled")
    assert _is_trained(enrolled, over=(), has_tokens=True)
    assert not _is_trained(enrolled, over=(), has_tokens=False)


def replace_policy(view: TaskView, **changes: str) -> TaskView:
    """The same task under a policy that differs in these."""
    assert view.created is not None
    policy = msgspec.structs.replace(view.created.policy, **changes)
    return TaskView(view.task, created=msgspec.structs.replace(view.created, policy=policy))
