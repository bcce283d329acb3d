"""The tables of a policy that say what devices learn: what names nothing or contradicts itself is refused."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.policy import PolicyError, check_policy
from tests.worlds.builders import policy, private_policy

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no model": ({"model": ""}, "a torch model, or a learner"),
    "two models": ({"learner": "a:b"}, "leave out model"),
    "no plugin": ({"model": "softmax"}, "model = 'softmax': must be 'module:callable'"),
    "two colons": ({"data": "a:b:c"}, "data = 'a:b:c': must be"),
    "no loss": ({"training": {"loss": "rmse"}}, "training.loss = 'rmse': must be one of"),
    "no optimizer": ({"training": {"optimizer": "lion"}}, "training.optimizer = 'lion'"),
    "no metric": ({"evaluation": {"metrics": ["acc"]}}, "evaluation.metrics = 'acc'"),
    "an argument": ({"training": {"loss_arguments": {"weight": [1.0, float("inf")]}}}, "loss_arguments.weight = inf"),
    "a report twice": ({"evaluation": {"report": ["loss", "loss"]}}, "each once"),
    "too large a round": (
        {
            "evaluation": {"report": ["loss"]},
            "aggregation": {"updates_per_round": 40_000},
            "selection": {"devices_expected": 50_000},
        },
        "at most 32768",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_learning_table_that_cannot_hold_is_refused(case: str) -> None:
    """The line names the field, its value and what would hold."""
    sections, message = REFUSED[case]
    with pytest.raises(PolicyError, match=message.replace("(", r"\(")):
        check_policy(policy(**sections))


def test_reports_are_not_private() -> None:
    """Metrics of single devices are in no noise, so a private task asks for none."""
    with pytest.raises(PolicyError, match=r"evaluation\.report"):
        check_policy(private_policy(evaluation={"report": ["loss"]}))


def test_arguments_may_be_lists_and_truths() -> None:
    """What TOML can say reaches a plugin."""
    arguments = {"hidden": (16, 32), "norm": True, "name": "x", "rate": 0.5}
    assert check_policy(policy(model_arguments=arguments)).model_arguments == arguments
