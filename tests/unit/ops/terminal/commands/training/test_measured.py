"""How answers are written for people: a metric on one line, a table of numbers cut where it becomes too long."""

from __future__ import annotations

import numpy as np

from ops.operator.results import Result
from ops.terminal.commands.training.measured import describe_scores, format_result


def _result(**changes: object) -> Result:
    plain: dict[str, object] = {
        "task": "rings.m",
        "version": 1,
        "of": "rings",
        "of_version": 4,
        "members": 9,
        "release": "sum",
        "statistics": {"count": np.arange(4, dtype=np.float32).reshape(2, 2), "n": np.array(123456.7, np.float32)},
        "scores": {"loss": {"over_devices": 0.25, "over_examples": 0.5}},
    }
    return Result(**{**plain, **changes})  # type: ignore[arg-type]


def test_scores_are_one_line() -> None:
    """Of a question that is no evaluation, what it asked for."""
    assert describe_scores(_result()) == "loss 0.25 over devices, loss 0.5 over examples; 9 devices"
    assert describe_scores(_result(scores={})) == "count, n; 9 devices"


def test_statistics_are_a_row_each() -> None:
    """Seven digits, which are all that a release has; what was measured, where something was."""
    assert format_result(_result()) == [
        ("version 1", "sum of 9 devices of rings version 4"),
        ("count", "[0, 1, 2, 3]"),
        ("n", "123456.7"),
    ]
    assert format_result(_result(of=""))[0] == ("version 1", "sum of 9 devices")


def test_a_long_table_is_cut() -> None:
    """With its shape; all of it is in the export."""
    [_, (_, text)] = format_result(_result(statistics={"histogram": np.zeros(1_000, np.float32)}))
    assert str(text).endswith("0, ...] of shape [1000]")
    assert len(str(text)) < 200
