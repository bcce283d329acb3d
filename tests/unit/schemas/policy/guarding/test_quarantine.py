"""The table [quarantine]: what it cannot hold together with is refused when the policy is written, with why."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import UNSET

from schemas.canonical import encode
from schemas.policy import PolicyError, Quarantine, check_policy
from tests.worlds.builders import policy

SELECTION = {"devices_expected": 5000, "concurrency": 5000}


def _asked(**sections: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {"aggregation": {"updates_per_round": 5}, "selection": SELECTION, "quarantine": {}}
    return {**plain, **sections}


def test_the_table_alone_asks_for_most_of_five_rounds() -> None:
    """What a policy says by `[quarantine]` and nothing more; without it not a byte of a policy is another."""
    rules = check_policy(policy(**_asked()))
    assert rules.quarantine == Quarantine(rounds=3, window=5, z_min=3.5)
    assert policy().quarantine is UNSET
    assert b"quarantine" not in encode(policy())


REFUSED = {
    "privacy": ({"privacy": {"noise_multiplier": 1.0, "rho_max": 9e3}}, "with privacy nobody may look"),
    "masks": ({"tier": "masked"}, "nobody sees single updates"),
    "a question": ({"measure": {"plugin": "nowhere:x", "statistics": {"n": {"bound": 1.0}}}}, "because devices do"),
    "shards": ({"shards": 2}, "see a part of a round"),
    "few": ({"aggregation": {"updates_per_round": 4}}, "needs 5 updates or more"),
    "few by time": ({"aggregation": {"updates_per_round": 9, "round_s": 5.0, "updates_min": 2}}, "may have 2"),
    "many": ({"aggregation": {"updates_per_round": 1001}}, "at most 1000 updates"),
    "more than the window": ({"quarantine": {"rounds": 4, "window": 3}}, "more than quarantine.window = 3"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_go_with_it_is_named(case: str) -> None:
    """Never with privacy or masks, where looking is not allowed; nor where nobody can say what is usual."""
    sections, words = REFUSED[case]
    with pytest.raises(PolicyError, match=rf"quarantine.*{words}"):
        check_policy(policy(**_asked(**sections)))


@pytest.mark.parametrize("tier", ["plain", "sealed"])
def test_it_goes_with_each_tier_in_which_somebody_may_look(tier: str) -> None:
    """Whoever reads the log of a plain task sees single updates, and of a sealed one the aggregator."""
    check_policy(policy(**_asked(tier=tier)))
