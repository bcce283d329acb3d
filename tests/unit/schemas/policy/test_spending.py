"""What tasks have spent adds up exactly, and a cap gives away nothing."""

from __future__ import annotations

import itertools
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from schemas.policy import compute_rho, count_affordable, to_fraction
from tests.worlds.builders import policy, spending

MULTIPLIERS = st.floats(1e-3, 1e4)


def test_spending_adds_up_over_tasks() -> None:
    """10 participations at z = 0.5 cost 20, and one at z = 20 costs 1/800: neither is lost beside the other."""
    assert compute_rho([spending(10, 0.5), spending(1, 20.0)]) == Fraction("20.00125")
    assert compute_rho([]) == 0


@given(multiplier=MULTIPLIERS, rho_max=st.floats(1e-9, 1e6), before=st.integers(0, 50), earlier=MULTIPLIERS)
def test_the_cap_is_the_last_that_the_budget_allows(
    multiplier: float, rho_max: float, before: int, earlier: float
) -> None:
    """m participations fit beside what was spent before, and m + 1 do not."""
    spent = (spending(before, earlier),)
    cap = count_affordable(multiplier, rho_max, spent=spent)
    assert cap == 0 or compute_rho([*spent, spending(cap, multiplier)]) <= to_fraction(rho_max)
    assert compute_rho([*spent, spending(cap + 1, multiplier)]) > to_fraction(rho_max)


def test_a_whole_number_of_participations_is_not_lost() -> None:
    """A budget of exactly m participations allows m; in floats one in 25 of them lost its last one."""
    tried = 0
    for tenths, m in itertools.product(range(1, 60), range(1, 40)):
        budget = Fraction(50 * m, tenths**2)
        # Only those that a policy can write down: the others are rounded, and may be a little less than m.
        if to_fraction(float(budget)) == budget:
            tried += 1
            assert count_affordable(tenths / 10, float(budget)) == m
    assert tried > 200


def test_the_noise_is_the_exact_product() -> None:
    """sigma is z w_max C rounded up once; a product of floats may fall below it."""
    for hundredths in range(1, 400):
        rules = policy(privacy={"noise_multiplier": hundredths / 100, "rho_max": 9.0}, clipping={"steps": 999_983})
        product = Fraction(hundredths, 100) * rules.weight_max * 999_983
        assert product <= rules.sigma < product + 1
