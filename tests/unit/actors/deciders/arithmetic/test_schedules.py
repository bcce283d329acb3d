"""The server's learning rate over the versions: the textbook's functions, and the same bits on every machine."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.deciders.arithmetic.schedules import compute_factor, cosine, power, schedule_optimizer
from schemas.policy import Schedule
from tests.worlds.builders import policy

RULES = st.builds(
    Schedule,
    rule=st.sampled_from(["constant", "step", "cosine", "exponential"]),
    warmup_versions=st.integers(0, 50),
    step_versions=st.integers(1, 20),
    decay=st.floats(1e-3, 1),
    cosine_versions=st.integers(1, 10_000_000),
    floor=st.floats(0, 1),
)


@given(st.integers(0, 10_000_000), st.integers(1, 10_000_000))
def test_a_cosine_is_that_of_the_platform_but_for_its_last_digits(numerator: int, denominator: int) -> None:
    """In whole numbers it comes out the same everywhere; the platform's may differ from one to the next."""
    at = min(numerator, denominator)
    # The platform's angle, up to pi, is rounded three times, each by up to 1.1e-16 of it.
    assert cosine(at, denominator) == pytest.approx(math.cos(math.pi * at / denominator), abs=1.2e-15)


def test_known_bits() -> None:
    """Written down once: a machine that gives others would release another model."""
    assert (cosine(0, 7), cosine(7, 7)) == (1.0, -1.0)
    assert cosine(1, 3).hex() == "0x1.0000000000000p-1"
    assert (cosine(1, 7).hex(), cosine(6, 7).hex()) == ("0x1.cd4bca9cb5c71p-1", "-0x1.cd4bca9cb5c71p-1")
    assert power(0.9, 100).hex() == "0x1.bda056ed49422p-16"


@given(st.floats(1e-3, 1), st.integers(0, 60))
def test_a_power_is_right_to_a_few_digits(base: float, exponent: int) -> None:
    """Compared with exact fractions."""
    exact = Fraction(base) ** exponent
    assert abs(Fraction(power(base, exponent)) - exact) <= exact / 10**13


@given(RULES, st.integers(0, 10_000_000))
def test_a_factor_is_a_share_of_the_full_rate(schedule: Schedule, version: int) -> None:
    """From 0 to 1, whatever the version, and after the warm-up never larger than before."""
    factor = compute_factor(schedule, version)
    assert 0 <= factor <= 1
    if version >= schedule.warmup_versions:
        assert compute_factor(schedule, version + 1) <= factor + 1e-15


def test_each_rule_is_the_one_of_its_name() -> None:
    """Warm-up grows evenly, steps hold, an exponential falls each version, a cosine ends at its floor and stays."""

    def factors(*versions: int, **rule: object) -> list[float]:
        return [compute_factor(Schedule(**rule), version) for version in versions]  # type: ignore[arg-type]

    assert factors(0, 1, 3, 9, warmup_versions=3) == [0.25, 0.5, 1.0, 1.0]
    assert factors(0, 9, 10, 25, rule="step") == [1.0, 1.0, 0.5, 0.25]
    assert factors(0, 1, 3, rule="exponential") == [1.0, 0.5, 0.125]
    assert factors(0, 50, 100, 900, rule="cosine", floor=0.2) == pytest.approx([1.0, 0.6, 0.2, 0.2])


def test_the_rate_is_the_optimizers_times_the_factor() -> None:
    """Nothing else of the optimizer changes; without a table it is the policy's own, to the bit."""
    rules = policy(optimizer={"rule": "adam", "learning_rate": 0.3}, server_schedule={"rule": "exponential"})
    assert schedule_optimizer(rules, 2).learning_rate == 0.3 * 0.25
    assert schedule_optimizer(policy(optimizer={"learning_rate": 0.3}), 77).learning_rate == 0.3
