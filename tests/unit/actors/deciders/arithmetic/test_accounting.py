"""What releases cost, against values of dp-accounting 0.6.0: one Gaussian, in closed form and by its PLD."""

from __future__ import annotations

import math
from fractions import Fraction

import dp_accounting
import pytest
from dp_accounting.pld import PLDAccountant

from actors.deciders.arithmetic.accounting import epsilon
from schemas.policy import Share, compute_rho
from tests.worlds.builders import policy

EXACT = [
    (1, 1, 1e-5, 4.377178),
    (1, 1, 1e-6, 4.886554),
    (4, 10, 1e-6, 3.747218),
    (8, 10, 1e-6, 1.7430),
    (10, 50, 1e-6, 3.307601),
]


@pytest.mark.parametrize(("multiplier", "participations", "delta", "expected"), EXACT)
def test_epsilon_is_exact(multiplier: int, participations: int, delta: float, expected: float) -> None:
    """The epsilon of m Gaussian releases is the closed form, not the looser one through Renyi orders."""
    found = epsilon(Fraction(participations, 2 * multiplier**2), delta=delta)
    assert found == pytest.approx(expected, abs=5e-7 if expected != 1.7430 else 5e-5)


def test_no_participation_costs_nothing() -> None:
    """A device that took no part has lost nothing."""
    assert epsilon(Fraction(0), delta=1e-5) == 0.0


def test_releases_under_different_noise_compose() -> None:
    """10 releases at z = 4 and 3 at z = 2 are one Gaussian of 1/z^2 = 10/16 + 3/4, whose epsilon dp-accounting has."""
    rho = Fraction(10, 32) + Fraction(3, 8)
    alone = dp_accounting.get_epsilon_gaussian(1 / math.sqrt(10 / 16 + 3 / 4), 1e-6)
    assert epsilon(rho, delta=1e-6) == pytest.approx(alone, rel=1e-12)


POPULATIONS = [
    [(3, 1.0), (2, 1.5), (5, 4.0)],
    [(1, 0.7)],
    [(12, 8.0), (1, 2.0), (40, 20.0), (1, 5.5)],
]


@pytest.mark.parametrize("spent", POPULATIONS, ids=str)
@pytest.mark.parametrize("delta", [1e-5, 1e-8])
def test_what_a_population_is_charged_is_what_its_releases_cost(spent: list[tuple[int, float]], delta: float) -> None:
    """The epsilon of the busiest device over all tasks, beside dp-accounting's privacy loss distributions."""
    shares = [Share(participations=count, noise_multiplier=z) for count, z in spent]
    accountant = PLDAccountant()
    for count, z in spent:
        accountant.compose(dp_accounting.GaussianDpEvent(z), count)
    assert epsilon(compute_rho(shares), delta=delta) == pytest.approx(accountant.get_epsilon(delta), rel=2e-3)


def test_epsilon_grows_with_participations_and_falls_with_noise() -> None:
    """More releases cost more, more noise costs less, a smaller delta costs more."""
    by_participations = [epsilon(Fraction(m, 8), delta=1e-5) for m in range(1, 30)]
    assert by_participations == sorted(set(by_participations))
    less, more = Fraction(5, 18), Fraction(5, 8)
    assert epsilon(less, delta=1e-5) < epsilon(more, delta=1e-5) < epsilon(more, delta=1e-7)


def test_the_noise_is_never_below_what_is_charged() -> None:
    """sigma on the grid is z w_max C rounded up, so that the multiplier charged is at most the one drawn."""
    for multiplier in (0.777, 1.0, 3.3):
        rules = policy(privacy={"noise_multiplier": multiplier, "rho_max": 9.0}, clipping={"steps": 17})
        sensitivity = rules.weight_max * rules.clipping.steps
        assert rules.sigma / sensitivity >= multiplier
        assert rules.sigma == math.ceil(multiplier * sensitivity)
