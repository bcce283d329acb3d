"""Robust rules in a policy: one that cannot hold is refused when it is written, with the bound."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.canonical import encode
from schemas.policy import PolicyError, check_policy
from tests.worlds.builders import policy


def _asked(rule: str, count: int, **sections: Any) -> dict[str, Any]:
    aggregation = {"rule": rule, "updates_per_round": count, **sections.pop("aggregation", {})}
    selection = {"devices_expected": 5000, "concurrency": 5000}
    return {"aggregation": aggregation, "selection": selection, **sections}


ACCEPTED = [
    ("median", 3, 1),
    ("trimmed_mean", 5, 2),
    ("krum", 5, 1),
    ("krum", 3, 0),
    ("multi_krum", 7, 2),
    ("centered_clipping", 3, 1),
]


@pytest.mark.parametrize(("rule", "count", "f"), ACCEPTED)
def test_a_rule_holds_from_its_papers_bound_on(rule: str, count: int, f: int) -> None:
    """n > 2 f, and n > 2 f + 2 for Krum: with one update fewer the policy is refused, and the message has the bound."""
    check_policy(policy(**_asked(rule, count, robust={"attackers_max": f})))
    with pytest.raises(PolicyError, match=rf"{rule!r}: with robust.attackers_max = {f} a round needs more than 2 f"):
        check_policy(policy(**_asked(rule, count - 1, robust={"attackers_max": f})))


def test_a_round_that_ends_by_time_may_be_the_smallest() -> None:
    """The bound is judged by updates_min, for so few may be compared."""
    rules = _asked("median", 50, aggregation={"round_s": 10.0, "updates_min": 2})
    with pytest.raises(PolicyError, match="more than 2 f = 2 updates, and may have 2"):
        check_policy(policy(**rules))


REFUSED = {
    "privacy": {"privacy": {"noise_multiplier": 1.0, "rho_max": 9.0}},
    "shards": {"shards": 2},
    "samples": {"aggregation": {"samples_max": 5, "normalisation": "weight"}},
    "a round of many": {"aggregation": {"updates_per_round": 1001}},
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_go_with_a_robust_rule_is_named(case: str) -> None:
    """Each is refused in a line that begins with the rule."""
    with pytest.raises(PolicyError, match=r"aggregation\.rule = 'median'"):
        check_policy(policy(**_asked("median", 5, **REFUSED[case])))


@pytest.mark.parametrize(("rule", "selected"), [("krum", 1), ("multi_krum", 1)])
def test_a_sealed_version_is_never_one_update(rule: str, selected: int) -> None:
    """Guarantee: what a seal hides from readers of the log, no rule publishes; of two updates it may be the mean."""
    asked = _asked(rule, 7, robust={"selected": selected}, tier="sealed")
    with pytest.raises(PolicyError, match=r"the update of one device.*take 'multi_krum' with robust\.selected of 2"):
        check_policy(policy(**asked))
    check_policy(policy(**{**asked, "tier": "plain"}))
    check_policy(policy(**_asked("multi_krum", 7, robust={"selected": 2}, tier="sealed")))


def test_selected_are_near() -> None:
    """Multi-Krum takes no more than its paper finds near."""
    with pytest.raises(PolicyError, match=r"robust\.selected = 5: of 7 updates at most K - f - 2 = 4 are near"):
        check_policy(policy(**_asked("multi_krum", 7, robust={"selected": 5})))


def test_the_mean_withstands_nobody() -> None:
    """A table [robust] beside the mean is a mistake, not a wish."""
    with pytest.raises(PolicyError, match="'mean' withstands nobody"):
        check_policy(policy(robust={"attackers_max": 1}))


def test_a_policy_without_the_table_has_the_bytes_of_before() -> None:
    """Recorded policies keep their digests."""
    assert b"robust" not in encode(policy())
