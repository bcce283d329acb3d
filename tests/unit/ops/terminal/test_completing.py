"""Names of tasks at a key: what the history knows, and never an error."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import MagicMock

from ops.terminal.completing import complete_task
from tests.unit.ops.terminal.conftest import Run
from tests.worlds.ops_journal import TASK


def test_a_shell_completes_tasks_out_of_the_history(run: Run, tmp_path: Path) -> None:
    """Guarantee: names of tasks are completed without a broker, and where nothing is known there is no error."""
    context = MagicMock()
    context.find_root().params = {"folder": tmp_path / ".fedlog", "debug": False}
    assert complete_task(context, "") == []
    assert run("history", "sync").exit_code == 0
    assert complete_task(context, TASK[:2]) == [TASK]
    assert complete_task(context, "other") == []
