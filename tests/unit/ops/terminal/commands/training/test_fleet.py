"""How `fedlog fleet` ends: over is what the server has closed, and devices that failed are no success."""

from __future__ import annotations

import pytest

from client_agent.running.loop import Stats
from ops.operator.errors import TaskUnknown
from ops.terminal.commands.training.fleet import require_task
from ops.terminal.commands.training.progress import tell_end
from ops.terminal.errors import ConsoleError
from tests.survey import RINGS, Survey
from tests.worlds.builders import KEY


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


def test_a_task_is_waited_for_as_long_as_was_said() -> None:
    """A misspelt name ends the fleet with the nearest one; a run says that its task's first model may take long."""
    log = Survey().log
    with pytest.raises(TaskUnknown, match=rf"There is no task 'ring'\. Did you mean '{RINGS}'\?"):
        require_task(log, "ring", operator=KEY.public_key, wait_s=0.0)
    assert require_task(log, RINGS, operator=KEY.public_key, wait_s=0.0) == RINGS
