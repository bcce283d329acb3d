"""What people see of a running task: a panel that stands still, and lines that end between words."""

from __future__ import annotations

import io
import os
import re
from unittest.mock import MagicMock

import pytest

from ops.console import wrap
from ops.history.task_view import TaskView
from ops.processes.panel import PANEL_COLUMNS, _panel
from tests.worlds.builders import policy
from tests.worlds.ops_journal import TASK, created

PRIVATE = {"noise_multiplier": 1.0, "rho_max": 9.0}
ADVICE = "Ask the devices themselves with a command, or look at http://127.0.0.1:12345/tasks/rings?page=1-with-a-name."


def _draw(view: TaskView, *, columns: int) -> list[str]:
    from rich.console import Console

    console = Console(file=io.StringIO(), width=columns, color_system=None)
    with console.capture() as captured:
        console.print(_panel(view, 12.0, columns=columns))
    return captured.get().splitlines()


def _views() -> list[TaskView]:
    """A task that has just been created, and the same late, with all that can be long."""
    early = TaskView(task=TASK, created=created(policy=policy(privacy=PRIVATE, stop={"versions_max": 120})))
    late = TaskView(task=TASK, created=early.created)
    late.published = {version: MagicMock() for version in range(120)}
    late.published_ms = {version: 60_000 * version for version in range(120)}
    late.evaluations = {v: MagicMock(metrics={"f1[macro] up": v / 120}) for v in range(120)}
    late.refused.update(stale=1_000_000, too_few_classes=99_999, unknown_lease=12_345)
    return [early, late]


@pytest.mark.parametrize("columns", [60, 80, 100, 140])
def test_the_panel_stands_still(columns: int) -> None:
    """Guarantee: from the first picture to the last it has one width and one height, and no line of it is cut."""
    early, late = (_draw(view, columns=columns) for view in _views())
    assert {len(line) for line in (*early, *late)} == {min(columns, PANEL_COLUMNS)}
    assert columns < PANEL_COLUMNS or len(early) == len(late)
    assert not any("…" in line for line in early)
    bars = [re.search("[░█]", rows[1]) for rows in (early, late)]
    assert len({bar.start() for bar in bars if bar is not None}) == 1


def test_reasons_make_way_for_the_line() -> None:
    """Guarantee: the commonest reasons of refusals are told for as long as there is room, and counts always."""
    text = "\n".join(_draw(_views()[1], columns=80))
    assert "1112344 refused (1000000 stale)" in text
    assert "too_few_classes" not in text
    assert "f1[macro]" in text


def test_words_stay_whole_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guarantee: a line ends between words where people read it, addresses stay whole, and pipes get it as it is."""
    stream = MagicMock()
    monkeypatch.setattr(os, "get_terminal_size", lambda descriptor: os.terminal_size((60, 24)))
    lines = wrap(f"[  1.5 s] {ADVICE}", stream, indent=" " * 10).split("\n")
    assert " ".join(line.strip() for line in lines) == f"[  1.5 s] {ADVICE}"
    assert all(len(line) <= 60 or "http" in line for line in lines)
    assert all(re.match(r"\[| {10}\S", line) for line in lines)
    command = "  fedlog " + "--folder /a/long/folder " * 5
    assert wrap(f"Try:\n{command}", stream) == f"Try:\n{command}"

    def refuse(descriptor: int) -> os.terminal_size:
        raise OSError(25, "Inappropriate ioctl for device")

    monkeypatch.setattr(os, "get_terminal_size", refuse)
    assert wrap(ADVICE * 3, stream) == ADVICE * 3
