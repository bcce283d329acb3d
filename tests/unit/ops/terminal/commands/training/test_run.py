"""What `fedlog run` says at its end."""

from __future__ import annotations

import pytest

from ops.history.task_view import TaskView, evolve
from ops.operator.tasks import summarize
from ops.terminal.commands.training.run import _print_end
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
