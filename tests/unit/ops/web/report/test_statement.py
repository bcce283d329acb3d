"""The statement on privacy gives the figures that docs/privacy.md derives."""

from __future__ import annotations

import pytest

from ops.web.report.questions import Spent
from ops.web.report.statement import describe, describe_none, list_spending, list_uncovered
from schemas.policy import Privacy
from tests.worlds.builders import policy

PRIVACY = Privacy(noise_multiplier=1.0, rho_max=9.0)


def test_epsilon_is_exact_at_two_deltas() -> None:
    """ρ = 9 is ε = 26.4 at 10⁻⁵ (Balle and Wang 2018), and more at a smaller δ; what is not spent costs nothing."""
    (spent, rho, at_spent), (_, bound, at_bound) = list_spending(PRIVACY, Spent(charges=0, rho=0.0, participations=0))
    assert (spent, rho, bound) == ("spent so far", 0.0, 9.0)
    assert [epsilon for _, epsilon in at_spent] == [0.0, 0.0]
    assert [delta for delta, _ in at_bound] == pytest.approx([1e-5, 1e-8])
    assert [epsilon for _, epsilon in at_bound] == pytest.approx([26.4049, 32.1743], abs=1e-3)


def test_every_part_is_told() -> None:
    """Unit, adjacency, mechanism, composition and trust boundary, with the numbers of this task."""
    parts = dict(describe(policy(), PRIVACY, spent=Spent(charges=17, rho=4.5, participations=9)))
    assert {"Unit of protection", "Adjacency", "Mechanism", "Composition", "Trust boundary"} <= parts.keys()
    assert "z = 1 " in parts["Mechanism"]
    assert "17 releases" in parts["Mechanism"]
    assert "9 times" in parts["Mechanism"]


def test_the_tier_is_named_for_what_it_is() -> None:
    """Guarantee: who sees single updates stands in every statement, as the task's own tier has it."""
    spent = Spent(charges=17, rho=4.5, participations=9)
    for tier, who in (("plain", "reads the other topics"), ("sealed", "and no update")):
        for told in (describe_none(policy(tier=tier)), dict(describe(policy(tier=tier), PRIVACY, spent=spent))):
            text = told if isinstance(told, str) else told["Trust boundary"]
            assert f"Trust tier: {tier}." in text
            assert who in text


def test_the_unit_is_the_subject_where_devices_enrol() -> None:
    """Guarantee: a task of enrolled devices protects persons or machines, and the statement says so, and only then."""
    spent = Spent(charges=17, rho=4.5, participations=9)
    assert dict(describe(policy(), PRIVACY, spent=spent))["Unit of protection"].startswith("One device")
    assert dict(describe(policy(identity="enrolled"), PRIVACY, spent=spent))["Unit of protection"].startswith(
        "One subject"
    )
    assert any("one person with several devices" in line for line in list_uncovered(is_enrolled=False))
    assert not any("one person with several devices" in line for line in list_uncovered(is_enrolled=True))
