"""The tier masked in a policy: what cannot hold together is refused when it is written, and older policies stay."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from schemas.canonical import decode, encode
from schemas.policy import Policy, PolicyError, check_policy, find_effective_min
from tests.worlds.builders import policy

ONE, TWO = "11" * 32, "22" * 32


def _masked(**changes: Any) -> Policy:
    table = {"helpers": (ONE, TWO), **changes.pop("masked", {})}
    return policy(**{"tier": "masked", "masked": table, **changes})


def test_two_helpers_or_one() -> None:
    """Both hold, and their keys come in the order of their numbers."""
    assert check_policy(_masked()).masked_by.public_keys == (bytes.fromhex(ONE), bytes.fromhex(TWO))
    assert check_policy(_masked(masked={"helpers": (ONE,)})).is_masked


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "nobody": ({"masked": {"helpers": ()}}, "masked.helpers: .* 1 or 2 public keys"),
    "a third": ({"masked": {"helpers": (ONE, TWO, "33" * 32)}}, "masked.helpers: .* 1 or 2 public keys"),
    "one twice": ({"masked": {"helpers": (ONE, ONE)}}, "the same key twice"),
    "no key": ({"masked": {"helpers": (ONE, "xyz")}}, "'xyz' is no public key"),
    "capitals": ({"masked": {"helpers": (ONE, "AB" * 32)}}, "is no public key"),
    "a round of one": ({"aggregation": {"updates_per_round": 1}}, "its version is then that update"),
    "a round by time of one": ({"aggregation": {"round_s": 1.0, "updates_min": 1}}, "its version is then that update"),
    "too thin a floor": ({"masked": {"effective_min": 4.0}}, "masked.effective_min = 4"),
    "a robust rule": ({"aggregation": {"rule": "median"}}, "compares single updates"),
    "weights by samples": (
        {"aggregation": {"samples_max": 5, "normalisation": "weight"}},
        "masked weights go by staleness",
    ),
    "a codec": ({"compression": {"codec": "int8"}}, "take 'float32'"),
    "reports": ({"evaluation": {"report": ("loss",)}}, "evaluation.report"),
    "privacy": (
        {"privacy": {"noise_multiplier": 1.0, "rho_max": 90.0}, "stop": {"versions_max": 9}},
        "masked.noise = 'none'",
    ),
    "noise of nobody": ({"masked": {"helpers": (ONE,), "noise": "aggregator"}}, "needs \\[privacy\\]"),
    "a narrow ring": (
        {
            "clipping": {"steps": 1 << 20},
            "aggregation": {"updates_per_round": 140},
            "selection": {"devices_expected": 200, "concurrency": 200},
        },
        r"2\^31",
    ),
    "noise that the ring cannot hold": (
        {
            "masked": {"helpers": (ONE, TWO), "noise": "helpers"},
            "privacy": {"noise_multiplier": 90.0, "rho_max": 9.0},
            "stop": {"versions_max": 9},
        },
        r"2\^31",
    ),
    "too many for a statement": (
        {
            "clipping": {"steps": 1 << 10},
            "aggregation": {"updates_per_round": 4_001},
            "selection": {"devices_expected": 5_000, "concurrency": 5_000},
        },
        "at most 4000",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_masked_is_refused(what: str) -> None:
    """Each with the field and what to take instead."""
    changes, message = REFUSED[what]
    with pytest.raises(PolicyError, match=message):
        check_policy(_masked(**changes))


def test_helpers_of_another_tier_are_refused() -> None:
    """Whoever names helpers wants masks, and must not get none."""
    with pytest.raises(PolicyError, match="tier = 'plain' has no helpers"):
        check_policy(policy(masked={"helpers": (ONE,)}))


def test_weights_are_small_and_none_is_lost() -> None:
    """max(1, round(15 f)): an update that counts at all counts one, and one that counts nothing stays out."""
    assert _masked().weights()[:5] == (15, 11, 9, 8, 7)
    assert set(_masked(staleness={"exponent": 16.0}).weights()[1:]) == {1}
    assert _masked(staleness={"rule": "threshold", "threshold": 1, "max_versions": 3}).weights() == (15, 15, 0, 0)
    assert (_masked().weight_one, _masked().weight_max, policy().weight_one) == (15, 15, 1 << 20)


def test_the_floor_is_half_of_a_round_and_two_at_least() -> None:
    """Where the policy says nothing; else what it says."""
    assert find_effective_min(_masked()) == 2.0
    assert find_effective_min(_masked(aggregation={"updates_per_round": 10})) == 5.0
    assert find_effective_min(_masked(masked={"effective_min": 2.5})) == 2.5


def test_a_policy_without_masks_has_the_bytes_that_it_had() -> None:
    """A new table that is left out is not in the encoding: digests of policies stay."""
    plain = encode(policy())
    assert b"masked" not in plain
    assert decode(plain, Policy).masked is msgspec.UNSET


def test_the_label_promises_the_weaker_thing() -> None:
    """No policy can prove who runs the helpers, or enrols."""
    assert "one helper of 2 is honest" in _masked().tier_label
    assert "honest-but-curious server only" in _masked().tier_label
