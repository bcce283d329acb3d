"""The tables of a policy that say what devices learn: what names nothing or contradicts itself is refused."""

from __future__ import annotations

import re
from typing import Any

import pytest

from schemas.policy import PolicyError, check_policy
from tests.worlds.builders import policy, private_policy

PRIVATE: dict[str, Any] = {"privacy": {"noise_multiplier": 1.0, "rho_max": 9.0}, "stop": {"versions_max": 9}}
NEEDS_PRIVACY = "are for evaluation.report with [privacy]"
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no model": ({"model": ""}, "a torch model, or a learner"),
    "two models": ({"learner": "a:b"}, "leave out model"),
    "no plugin": ({"model": "softmax"}, "model = 'softmax': must be 'module:callable'"),
    "two colons": ({"data": "a:b:c"}, "data = 'a:b:c': must be"),
    "no loss": ({"training": {"loss": "rmse"}}, "training.loss = 'rmse': must be one of"),
    "no optimizer": ({"training": {"optimizer": "lion"}}, "training.optimizer = 'lion'"),
    "no metric": ({"evaluation": {"metrics": ["acc"]}}, "evaluation.metrics = 'acc'"),
    "an argument": ({"training": {"loss_arguments": {"weight": [1.0, float("inf")]}}}, "loss_arguments.weight = inf"),
    "an optimizer's argument": (
        {"training": {"optimizer_arguments": {"eps": float("nan")}}},
        "training.optimizer_arguments.eps = nan: must be finite",
    ),
    "a sum for a mean": (
        {"training": {"loss_arguments": {"reduction": "sum"}}},
        "loss_arguments.reduction = 'sum': must be 'mean'",
    ),
    "accuracy of values": (
        {"training": {"loss": "mse"}, "evaluation": {"metrics": ["accuracy"]}},
        "evaluation.metrics = 'accuracy': with training.loss = 'mse' take loss, mae, r2",
    ),
    "values of classes": (
        {"evaluation": {"report": ["mae"]}},
        "evaluation.report = 'mae': with training.loss = 'cross_entropy' take loss, accuracy",
    ),
    "a report of nothing": ({"evaluation": {"report": ["depth"]}}, "evaluation.report = 'depth': must be one of"),
    "a report without a name": (
        {"training": {"train": "a:b"}, "evaluation": {"report": [""]}},
        "from 1 to 200 letters",
    ),
    "a long report": (
        {"training": {"train": "a:b"}, "evaluation": {"report": [f"m{place}" for place in range(33)]}},
        "evaluation.report has 33 names: at most 32",
    ),
    "a quorum of nobody": ({"evaluation": {"quorum": 0}}, "evaluation.quorum = 0: must be from 1 to 255"),
    "a fall that is no number": (
        {"evaluation": {"drop_max": float("nan")}},
        "evaluation.drop_max = nan: must be from 0 to 1000000000",
    ),
    "nobody to disagree with": (
        {"evaluation": {"disagreement_max": 0.1}},
        "evaluation.disagreement_max = 0.1: with a quorum of 1",
    ),
    "a metric that nobody scores": (
        {"evaluation": {"metric": "f1", "drop_max": 0.1}},
        "evaluation.metric: compares 'f1', which nobody scores; evaluation.metric takes accuracy, loss",
    ),
    "an accuracy of values": (
        {"training": {"loss": "mse"}, "evaluation": {"drop_max": 0.1}},
        "evaluation.drop_max: compares 'accuracy', which nobody scores; evaluation.metric takes loss",
    ),
    "a cohort without a name": ({"evaluation": {"cohort": ""}}, "evaluation.cohort = '': a name has from 1 to 200"),
    "a cohort plugin of two": ({"evaluation": {"cohort": "a:b:c"}}, "evaluation.cohort = 'a:b:c': must be"),
    "a private report without bounds": ({**PRIVATE, "evaluation": {"report": ["loss"]}}, "needs a bound, and no other"),
    "a bound of what is not reported": (
        {**PRIVATE, "evaluation": {"report": ["loss"], "report_bounds": {"loss": 1.0, "accuracy": 1.0}}},
        "['loss'] are reported, and ['loss', 'accuracy'] have one",
    ),
    "a bound that is none": (
        {**PRIVATE, "evaluation": {"report": ["loss"], "report_bounds": {"loss": 0.0}}},
        "evaluation.report_bounds.loss = 0.0: must be from 1e-06 to 1e+06",
    ),
    "bounds without privacy": (
        {"evaluation": {"report": ["loss"], "report_bounds": {"loss": 1.0}}},
        "are for evaluation.report with [privacy]",
    ),
    "a share of nothing": (
        {**PRIVATE, "evaluation": {"report_share": 0.5}},
        "are for evaluation.report with [privacy]",
    ),
    "a private report in int8": (
        {
            **PRIVATE,
            "evaluation": {"report": ["loss"], "report_bounds": {"loss": 1.0}},
            "compression": {"codec": "int8"},
        },
        "compression.codec = 'int8': with evaluation.report and [privacy]",
    ),
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
    with pytest.raises(PolicyError, match=re.escape(message)):
        check_policy(policy(**sections))


@pytest.mark.parametrize(
    "sections",
    [
        {"training": {"loss": "a:b"}, "evaluation": {"metrics": ["accuracy", "mae", "a:b"], "report": ["r2"]}},
        {
            "training": {"loss": "mse", "train": "a:b"},
            "evaluation": {"report": ["accuracy", "depth"], "metrics": ["r2"]},
        },
        {"training": {"loss": "mse"}, "evaluation": {"evaluate": "a:b", "metrics": ["accuracy"]}},
        {"model": "", "learner": "a:b", "evaluation": {"report": ["depth"]}},
        {"training": {"loss_arguments": {"weight": (0.5, 2.0), "ignore_index": -1, "reduction": "mean"}}},
        {"training": {"loss": "bce"}, "evaluation": {"metrics": ["auroc", "f1"], "report": ["a:b", "loss"]}},
    ],
)
def test_own_code_may_measure_what_it_likes(sections: dict[str, Any]) -> None:
    """Metrics are held to the loss only where fedlog takes them; a plugin's have any name."""
    assert check_policy(policy(**sections))


def test_every_plugin_that_may_run_is_listed() -> None:
    """Whatever a policy names is asked about before it is imported, also a metric that only devices report."""
    named = policy(
        learner="p:learner",
        data="p:data",
        training={"train": "p:train", "collate": "p:collate", "optimizer": "p:optimizer", "loss": "p:loss"},
        evaluation={"evaluate": "p:evaluate", "metrics": ["loss", "p:metric"], "report": ["p:report", "loss"]},
    )
    fields = ["learner", "data", "train", "collate", "optimizer", "loss", "evaluate", "metric", "report"]
    assert set(named.list_plugins().values()) >= {f"p:{field}" for field in fields}


def test_reports_are_not_private() -> None:
    """Metrics of single devices are in no noise, so a private task asks for none."""
    with pytest.raises(PolicyError, match=r"evaluation\.report"):
        check_policy(private_policy(evaluation={"report": ["loss"]}))


def test_arguments_may_be_lists_and_truths() -> None:
    """What TOML can say reaches a plugin."""
    arguments = {"hidden": (16, 32), "norm": True, "name": "x", "rate": 0.5}
    assert check_policy(policy(model_arguments=arguments)).model_arguments == arguments
