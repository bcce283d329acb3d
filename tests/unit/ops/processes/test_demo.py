"""The demo's JSON: what a script reads of the proof."""

from __future__ import annotations

from unittest.mock import MagicMock

import pytest

from ops.history.task_view import TaskView
from ops.processes.demo import Demo
from ops.processes.panel import describe_progress
from ops.settings import resolve
from tests.worlds.ops_journal import TASK, created


@pytest.mark.parametrize("unchecked", [[], ["digits/1 (needs the operator's key)"]])
def test_the_demo_tells_what_its_replay_did_not_check(unchecked: list[str]) -> None:
    """The verdict is the replay's own, and whatever was not compared stands beside it."""
    verdict = "identical" if not unchecked else "identical, as far as it could be checked: 0 of 1 models"
    demo = Demo(resolve({}), keep=False, view=MagicMock())
    report = demo._report(MagicMock(refused={}), {"replay": verdict, "unchecked": unchecked}, seconds=1.0)
    assert (report["replay"], report["unchecked"]) == (verdict, unchecked)


def test_progress_says_how_far_and_how_long() -> None:
    """Percent of the versions, and what the others take at the pace so far; no promise before the first."""
    view = TaskView(task=TASK, created=created())
    goal = created().policy.stop.versions_max
    assert describe_progress(view) == "0 %"
    published = MagicMock()
    view.published, view.published_ms = {0: published}, {0: 1_000}
    assert describe_progress(view) == "0 %"
    view.published, view.published_ms = {0: published, 1: published}, {0: 1_000, 1: 2_000}
    assert describe_progress(view) == f"{100 / goal:.0f} %, {goal - 1} s left"
    view.closed = True
    assert describe_progress(view) == f"{100 / goal:.0f} %"
