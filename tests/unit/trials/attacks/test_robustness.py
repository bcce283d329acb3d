"""The trial of attackers: what its figures rest on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trials.robustness.arena import Arena
from tests.trials.robustness.cells import ATTACKS, DATA, OTHER_SHARES, RULES, SEEDS, Cell, list_cells
from tests.trials.robustness.data import mirror
from tests.trials.robustness.minority import Member, Members, measure_kept, summarize_kept

SHORT = 6


def train(rule: str, attack: str = "", share: float = 0.0) -> dict[str, object]:
    """A few versions of digits."""
    arena = Arena(Cell("digits", rule, attack, share, 1))
    arena.versions = SHORT
    return arena.run()


def test_a_training_is_its_seed_and_attackers_harm_the_mean() -> None:
    """Guarantee: a row is the same again; under attack the mean learns less, and a robust rule is hardly harmed."""
    peace, again = train("mean"), train("mean")
    assert peace == again
    war, withstood = train("mean", "sign_flip", 0.2), train("trimmed_mean", "sign_flip", 0.2)
    assert war["accuracy"] < peace["accuracy"]  # type: ignore[operator]
    assert withstood["accuracy"] > war["accuracy"]  # type: ignore[operator]
    assert (peace["kept_majority"], peace["kept_minority"], peace["silent"]) == (1.0, 1.0, [])


def test_every_cell_is_planned_once() -> None:
    """Guarantee: each data, rule, attack, share and seed has one row, and one without attackers."""
    cells = list_cells()
    assert len(set(cells)) == len(cells)
    assert len(cells) == len(DATA) * len(SEEDS) * len(RULES) * (1 + len(ATTACKS) * (1 + len(OTHER_SHARES)))
    for cell in cells[: len(RULES) * (1 + len(ATTACKS))]:
        assert Cell.read(cell.describe()) == cell
        assert cell.policy.aggregation.updates_per_round == 20
        assert (cell.hostility is None) == (cell.attack == "")


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(-99, 99)), min_size=2, max_size=8))
def test_the_mean_keeps_all_and_a_constant_nothing(given_members: list[tuple[int, int]]) -> None:
    """Guarantee: the mean keeps one, to the rounding of the others' mean; who is not heard keeps nothing."""
    vectors = [np.array([value * 1_000_000, 7]) for _, value in given_members]
    made = [Member(place, weight, vectors[place]) for place, (weight, _) in enumerate(given_members)]
    members = Members(made)
    kept = dict(measure_kept(members, lambda each: each.weights @ each.vectors))
    assert all(share == pytest.approx(1.0, abs=1e-3) for share in kept.values())
    nothing = dict(measure_kept(members, lambda each: np.array([3, 3])))
    assert set(nothing.values()) <= {0.0}


def test_who_no_longer_counts_is_named() -> None:
    """Guarantee: attackers, majority and minority are told apart, and silent are the honest ones alone."""
    kept = [(0, 1.0), (0, 0.0), (1, 0.05), (2, 0.9), (3, 0.0), (4, 0.5)]
    told = summarize_kept(kept, hostile={3}, minority={1, 2})
    assert (told["kept_majority"], told["kept_minority"], told["kept_attackers"]) == (0.5, 0.475, 0.0)
    assert (told["silent"], told["silent_of"]) == ([1], 4)


def test_a_mirror_turns_each_row_of_pixels() -> None:
    """Guarantee: the minority's pictures are the others', left and right exchanged."""
    picture = np.arange(9, dtype=np.float32)[None]
    assert mirror(picture).tolist() == [[2, 1, 0, 5, 4, 3, 8, 7, 6]]
    assert (mirror(mirror(picture)) == picture).all()
