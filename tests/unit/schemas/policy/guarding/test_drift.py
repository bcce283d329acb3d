"""The table [drift]: what it asks of the question beside it is refused when the policy is written, with why."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import UNSET

from schemas.canonical import encode
from schemas.creations import find_faults
from schemas.events import Reference, count_elements
from schemas.policy import Drift, PolicyError, check_policy
from schemas.topics import MODELS, partition_of
from tests.places import PARTITIONS
from tests.survey import measuring_policy
from tests.worlds.builders import TASK, body_ref, policy, task_created
from tests.worlds.drift.asking import COHORTS, drift_policy


def test_the_table_alone_watches_all_devices() -> None:
    """What a policy says by `[drift]` and nothing more; without it not a byte of a policy is another."""
    rules = drift_policy()
    assert rules.drift == Drift(statistic="histogram", version=1, psi_max=0.2, ks_max=0.1)
    assert measuring_policy().drift is UNSET
    assert b"drift" not in encode(measuring_policy())


SHAPES = {"histogram": {"bound": 1.0, "shape": (2, 4)}, "devices": {"bound": 1.0, "shape": (2,)}}
REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "no such statistic": ({"statistic": "ages"}, {}, r"'ages': is not in"),
    "one bin": ({}, {"measure": {"statistics": {"histogram": {"bound": 1.0, "shape": (1,)}}}}, r"has shape \[1\]"),
    "a number": ({}, {"measure": {"statistics": {"histogram": {"bound": 1.0}}}}, r"has shape \[\]"),
    "rows without cohorts": ({}, {"measure": {"statistics": SHAPES}}, r"has shape \[2, 4\]"),
    "other rows": ({"cohorts": ("a", "b", "c")}, {"measure": {"statistics": SHAPES}}, r"shape \[3, bins\]"),
    "nobody counts": (
        {"cohorts": COHORTS},
        {"measure": {"statistics": {"histogram": SHAPES["histogram"]}}},
        "counts who answered",
    ),
    "too many elements": (
        {},
        {"measure": {"statistics": {"histogram": {"bound": 1.0, "shape": (1025,)}}}},
        "more than 1024",
    ),
    "one cohort": ({"cohorts": ("lab",)}, {}, "none, or from 2 to 32"),
    "a cohort twice": ({"cohorts": ("lab", "lab")}, {}, "named twice"),
    "no name of a cohort": ({"cohorts": ("lab", "at home")}, {}, "'at home' is no name"),
    "no cohort at all": ({"cohorts": ("lab", "")}, {}, "'' is no name"),
    "skew between nobody": ({"skew_ks_max": 0.2}, {}, "between which cohorts"),
    "no name of a task": ({"of": "A b"}, {}, "no name of a task"),
    "what it began with": ({"version": 0}, {}, "the first answer is version 1"),
    "its own newest": ({"version": -1}, {}, "the first answer is version 1"),
    "no share": ({"ks_max": 1.5}, {}, "ks_max = 1.5"),
    "not a number": ({"skew_psi_max": float("nan")}, {}, "skew_psi_max = nan"),
    "below zero": ({"psi_max": -0.1}, {}, "psi_max = -0.1"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_compared_is_refused(case: str) -> None:
    """With the field, what it is, and what it should be."""
    table, sections, words = REFUSED[case]
    with pytest.raises(PolicyError, match=rf"drift.*{words}"):
        drift_policy(drift=table, **sections)


def test_only_answers_are_compared() -> None:
    """A task that trains has no histogram."""
    with pytest.raises(PolicyError, match="drift: compares answers to a question"):
        check_policy(policy(drift={}))


def test_cohorts_need_their_rows_and_their_counts() -> None:
    """As `shares_by_cohort` gives them."""
    assert drift_policy(cohorts=COHORTS, drift={"skew_psi_max": 0.3}).drift.looks_for_skew  # type: ignore[union-attr]


def faults_of(reference: Reference | None, *, task: str = TASK, **table: Any) -> list[str]:
    """What every actor says of such a creation."""
    place = {"topic": MODELS.name, "partition": partition_of(task, PARTITIONS)}
    created = task_created(
        rules := drift_policy(drift=table),
        task=task,
        reference=UNSET if reference is None else reference,
        model=body_ref("initial", **place),
    )
    assert created.policy == rules
    return [fault for fault in find_faults(created) if count_elements(created.tensors) == 0]


def reference_to(task: str = "before", version: int = 3, **place: Any) -> Reference:
    """A copy of the answers of another task, in the partition of this one."""
    at = {"topic": MODELS.name, "partition": partition_of(TASK, PARTITIONS), **place}
    return Reference(task=task, version=version, members=4, noise=0.0, model=body_ref("old", **at))


@pytest.mark.parametrize("version", [3, -1])
def test_a_stored_reference_is_that_of_the_policy(version: int) -> None:
    """By its number, or the newest, whichever that was."""
    assert faults_of(reference_to(), of="before", version=version) == []


@pytest.mark.parametrize(
    ("reference", "table"),
    [
        (None, {"of": "before", "version": 3}),
        (reference_to(), {}),
        (reference_to("other"), {"of": "before", "version": 3}),
        (reference_to(version=4), {"of": "before", "version": 3}),
        (reference_to(TASK), {"of": TASK, "version": 3}),
        (reference_to(partition=partition_of(TASK, PARTITIONS) + 1), {"of": "before", "version": 3}),
        (reference_to(topic="bodies"), {"of": "before", "version": 3}),
    ],
    ids=["none", "nobody asked", "another task", "another version", "itself", "elsewhere", "no model"],
)
def test_another_reference_is_a_fault(reference: Reference | None, table: dict[str, Any]) -> None:
    """No actor takes a task whose answers would be compared with something else than its policy says."""
    assert len(faults_of(reference, **table)) == 1
