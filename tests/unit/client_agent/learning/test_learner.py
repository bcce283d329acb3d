"""What a training may know: its seed above all."""

from __future__ import annotations

import msgspec
import pytest

from client_agent.learning.learner import derive_seed
from schemas.canonical import decode, encode
from schemas.policy import Policy, PolicyError, Seeds, parse
from tests.worlds.device_world import policy

SEEDED = msgspec.structs.replace(policy(), seeds=Seeds(training=7))


def test_a_training_is_seeded_by_what_a_second_run_has_too() -> None:
    """Guarantee: policy seed, place and version decide, each of them; neither other seeds nor a lease do."""
    first = derive_seed(SEEDED, "3", version=5)
    # A known answer: a run that is repeated years later draws the same.
    assert first == 1201378331
    assert first == derive_seed(
        msgspec.structs.replace(policy(), seeds=Seeds(training=7, split=1, model=2)), "3", version=5
    )
    others = {
        derive_seed(policy(), "3", version=5),
        derive_seed(SEEDED, "4", version=5),
        derive_seed(SEEDED, "3", version=6),
        first,
    }
    assert len(others) == 4


def test_a_policy_without_seeds_has_the_bytes_that_it_had() -> None:
    """Guarantee: the digest of a policy of an older release stays; one with seeds has them in the log."""
    assert b"seeds" not in encode(policy())
    assert policy().drawn_by == Seeds()
    assert decode(encode(SEEDED), Policy).drawn_by.training == 7


def test_a_seed_is_a_whole_number_within_32_bits() -> None:
    """Guarantee: every library takes it; others are refused by name."""
    text = (
        'model = "m:m"\n[selection]\ndevices_expected = 4\nconcurrency = 4\n[aggregation]\nupdates_per_round = 2\n'
        "[stop]\nversions_max = 3\n[seeds]\nmodel = {value}\n"
    )
    assert parse(text.format(value=2**32 - 1)).drawn_by.model == 2**32 - 1
    for value in (-1, 2**32):
        with pytest.raises(PolicyError, match=r"seeds\.model"):
            parse(text.format(value=value))
