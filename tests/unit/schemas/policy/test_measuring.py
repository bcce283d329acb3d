"""What a policy of kind "measure" must say and must not: a step of a model makes no sense of an answer."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.policy import Policy, PolicyError, check_policy, parse
from tests.survey import TOTAL, measuring_policy
from tests.worlds.builders import policy

ASKED = {"plugin": TOTAL, "statistics": {"examples": {"bound": 64.0}}}


def _refuse(rules: Policy) -> str:
    with pytest.raises(PolicyError) as refused:
        check_policy(rules)
    return str(refused.value)


def test_a_question_needs_no_model() -> None:
    """Its vector is the statistics, in the order of the policy's file."""
    text = """
    kind = "measure"
    [measure]
    plugin = "mine:ask"
    [measure.statistics]
    zeros = { bound = 1.0 }
    ages = { bound = 1024.0, shape = [8] }
    [selection]
    devices_expected = 10
    concurrency = 10
    [aggregation]
    updates_per_round = 3
    [compression]
    codec = "float32"
    error_feedback = false
    [staleness]
    rule = "constant"
    [stop]
    versions_max = 1
    """
    measure = parse(text).measure
    assert measure is not None
    assert list(measure.statistics) == ["zeros", "ages"]


@pytest.mark.parametrize(
    ("sections", "field"),
    [
        ({"optimizer": {"rule": "momentum"}}, "optimizer"),
        ({"optimizer": {"rule": "adam"}}, "optimizer"),
        ({"optimizer": {"learning_rate": 0.5}}, "optimizer"),
        ({"server_schedule": {"rule": "cosine"}}, "server_schedule"),
        ({"compression": {"error_feedback": True}}, "compression.error_feedback"),
        ({"compression": {"codec": "topk"}}, "compression.codec"),
        ({"staleness": {"rule": "polynomial"}}, "staleness.rule"),
        ({"aggregation": {"samples_max": 4, "normalisation": "weight"}}, "aggregation"),
        ({"aggregation": {"normalisation": "weight"}}, "aggregation"),
        ({"evaluation": {"report": ("loss",)}}, "evaluation.report"),
        ({"evaluation": {"quorum": 2}}, "evaluation.quorum"),
        ({"evaluation": {"drop_max": 0.5}}, "evaluation.drop_max"),
        ({"stop": {"target_metric": "loss", "target_value": 1.0}}, "stop.target_metric"),
        ({"measure": {"plugin": "nothing"}}, "measure.plugin"),
        ({"measure": {"version": 3}}, "measure.version"),
        ({"measure": {"of": "rings", "version": -2}}, "measure.version"),
        ({"measure": {"of": "Rings"}}, "measure.of"),
        ({"measure": {"plugin_arguments": {"low": float("inf")}}}, "measure.plugin_arguments.low"),
        ({"measure": {"plugin_arguments": {"bins": 1 << 63}}}, "measure.plugin_arguments.bins"),
        ({"measure": {"statistics": {}}}, "measure.statistics"),
        ({"measure": {"statistics": {"": {"bound": 1.0}}}}, "measure.statistics"),
        ({"measure": {"statistics": {"ages": {"bound": 0.0}}}}, "measure.statistics.ages.bound"),
        ({"measure": {"statistics": {"ages": {"bound": float("nan")}}}}, "measure.statistics.ages.bound"),
        ({"measure": {"statistics": {"ages": {"bound": 1.0, "shape": (0,)}}}}, "measure.statistics.ages.shape"),
        ({"measure": {"statistics": {"ages": {"bound": 1.0, "shape": (1 << 40,)}}}}, "measure.statistics"),
    ],
)
def test_what_belongs_to_training_is_refused(sections: dict[str, Any], field: str) -> None:
    """The message names the field; nothing is quietly ignored."""
    with pytest.raises(PolicyError, match=rf"^{field}\b|\n{field}\b"):
        measuring_policy(**sections)


def test_a_task_measures_or_trains() -> None:
    """The kind and the table come together."""
    assert "[measure]" in _refuse(policy(kind="measure"))
    assert "[measure]" in _refuse(policy(measure=ASKED))
