"""The table [rollout]: what cannot hold is refused before a task is created, one line for each problem."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.canonical import encode
from schemas.policy import PolicyError, check_policy, parse
from schemas.policy.releasing.rollout_checks import find_shrinking_stages
from tests.worlds.builders import policy
from tests.worlds.releasing.deciding import rollout_policy

FILE = """
model = "client_agent.learning.models:softmax_regression"
[selection]
devices_expected = 10
concurrency = 10
[aggregation]
updates_per_round = 3
[stop]
versions_max = 3
[evaluation]
cohort = "site"
[rollout]
patience_s = 60
[[rollout.stages]]
share = 0.05
cohorts = ["lab"]
hold_s = 30
[[rollout.stages]]
share = 1
[[rollout.gates]]
metric = "accuracy"
drop_max = 0.01
"""


def test_a_file_says_stages_and_gates() -> None:
    """Arrays of tables are read as they stand, and whole numbers become what the canonical bytes have."""
    rollout = parse(FILE).rollout
    assert [(stage.share, stage.cohorts, stage.hold_s) for stage in rollout.stages] == [  # type: ignore[union-attr]
        (0.05, ("lab",), 30.0),
        (1.0, (), 0.0),
    ]
    assert rollout.list_cohorts() == ["lab"]  # type: ignore[union-attr]


def test_a_policy_without_the_table_keeps_its_bytes() -> None:
    """Tasks that were created before there was a rollout keep the digest of their policy."""
    assert b"rollout" not in encode(policy())


def stage(**changes: Any) -> dict[str, Any]:
    return {"stages": [{"share": 0.5, **changes}]}


def gate(**changes: Any) -> dict[str, Any]:
    return {"gates": [{"metric": "accuracy", **changes}]}


def shares(*all_shares: float) -> dict[str, Any]:
    return {"stages": [{"share": share} for share in all_shares]}


def cohorts(*named: list[str]) -> dict[str, Any]:
    return {"stages": [{"share": 0.5, "cohorts": each} for each in named]}


@pytest.mark.parametrize(
    "rules", [shares(0.05, 0.05, 1.0), cohorts(["a"], ["a"], ["b", "a"], []), {"stages": []}], ids=str
)
def test_stages_that_grow_are_taken(rules: dict[str, Any]) -> None:
    """As many devices as before is no loss to anybody: a stage may only last longer."""
    assert check_policy(rollout_policy(**rules)).rollout


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ((), "rollout: asks for scores of lab, and evaluation.cohort names no column or plugin"),
        (("rollout.stages=[]", 'rollout.gates=[{metric="accuracy",cohort="west",at_least=0.5}]'), "scores of west"),
        (("rollout.stages=[]", 'rollout.gates=[{metric="accuracy",gap_max=0.1}]'), "gates[0].gap_max: compares"),
    ],
)
def test_cohorts_that_nobody_could_score_are_refused(changes: tuple[str, ...], said: str) -> None:
    """A file that asks for scores by cohort says by what cohorts are told: else each version would end as unscored."""
    with pytest.raises(PolicyError) as refused:
        parse(FILE.replace('cohort = "site"', ""), changes=changes)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        (stage(share=0.0), "rollout.stages[0].share = 0.0: must be above 0"),
        (stage(share=1.5), "rollout.stages[0].share = 1.5"),
        (stage(share=float("nan")), "rollout.stages[0].share = nan"),
        (stage(hold_s=-1.0), "rollout.stages[0].hold_s = -1.0"),
        (stage(cohorts=["a b"]), "'a b' is no name of a cohort"),
        (stage(cohorts=[""]), "'' is no name of a cohort"),
        (gate(), "rollout.gates[0]: holds nothing back"),
        (gate(metric="", at_least=0.5), "rollout.gates[0].metric"),
        (gate(at_least=float("inf")), "rollout.gates[0].at_least = inf: must be a finite number"),
        (gate(drop_max=-0.1), "rollout.gates[0].drop_max = -0.1: must be 0 or more"),
        (gate(gap_max=0.1, cohort="lab"), "leave cohort = 'lab' out"),
        ({"stages": [{"share": 1.0}] * 17}, "rollout.stages: 17 of them"),
        ({"every": 0}, "rollout.every = 0"),
        ({"patience_s": -1.0}, "rollout.patience_s = -1.0"),
    ],
)
def test_what_cannot_hold_is_refused(rules: dict[str, Any], said: str) -> None:
    """The line names the field, its value and what would hold."""
    with pytest.raises(PolicyError, match="rollout") as refused:
        check_policy(rollout_policy(**rules))
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        (shares(0.5, 0.05), "rollout.stages[1].share = 0.05: is below the 0.5 of the stage before"),
        (shares(0.05, 0.5, 0.4999), "rollout.stages[2].share = 0.4999: is below the 0.5"),
        (cohorts(["a", "b"], ["b"]), "rollout.stages[1].cohorts: a had the stage before"),
        (cohorts(["a"], ["b"]), "rollout.stages[1].cohorts: a had the stage before"),
        (cohorts([], ["a"]), "rollout.stages[1].cohorts: some of all cohorts had the stage before"),
    ],
)
def test_stages_that_shrink_are_mistakes_of_a_file_alone(rules: dict[str, Any], said: str) -> None:
    """A task that was created before they were refused goes on, and replays; no file makes another."""
    policy = check_policy(rollout_policy(**rules))
    assert said in "\n".join(find_shrinking_stages(policy))


def test_a_file_whose_stages_shrink_is_refused() -> None:
    """Before anything is created."""
    with pytest.raises(PolicyError, match="shares only grow"):
        parse(FILE, changes=("rollout.stages=[{share=0.5},{share=0.05}]",))


def test_a_measurement_is_not_rolled_out() -> None:
    """An answer is nothing that devices use."""
    rules = policy(
        kind="measure",
        model="",
        measure={"plugin": "nowhere:ask", "statistics": {"mean": {"bound": 1.0}}},
        rollout={"stages": []},
    )
    with pytest.raises(PolicyError, match="rollout: what is measured"):
        check_policy(rules)
