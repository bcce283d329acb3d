"""Robust rules on the grid, beside the same rules in exact fractions, which were written from the papers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median as median_of

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.deciders.arithmetic import robust
from schemas.tensors import Grid
from tests.judges import slow_sums
from tests.worlds.builders import policy

ONE = 1 << 20
CLIP = 1 << 16


@dataclass
class InMemory:
    """Members as a list of vectors, handed out in pieces of a width."""

    vectors: Grid
    weights: Grid
    width: int = 3

    @property
    def parameters(self) -> int:
        """The length of each."""
        return self.vectors.shape[1]

    def pieces(self) -> Iterator[tuple[slice, Grid]]:
        """So many columns at a time."""
        for start in range(0, self.parameters, self.width):
            place = slice(start, start + self.width)
            yield place, self.vectors[:, place]


@st.composite
def rounds(draw: st.DrawFn) -> InMemory:
    """A round of five to nine members of up to five parameters, many of whose elements are equal."""
    count, parameters = draw(st.integers(5, 9)), draw(st.integers(1, 5))
    elements = st.one_of(st.integers(-2, 2), st.integers(-CLIP, CLIP))
    rows = draw(st.lists(st.lists(elements, min_size=parameters, max_size=parameters), min_size=count, max_size=count))
    choices = draw(st.sampled_from([[ONE], [1, 3, ONE // 2, ONE]]))
    weights = draw(st.lists(st.sampled_from(choices), min_size=count, max_size=count))
    return InMemory(np.array(rows, np.int64), np.array(weights, np.int64), draw(st.integers(1, 6)))


RULES: dict[str, Callable[[InMemory], Grid]] = {
    "median": robust.median,
    "trimmed_mean": lambda members: robust.trim_mean(members, f=2),
    "krum": lambda members: robust.krum(members, f=1),
    "multi_krum": lambda members: robust.krum(members, f=1, selected=2),
    "centered_clipping": lambda members: robust.clip_centered(members, radius=20_000, iterations=3),
}
ASKED = {
    "median": {},
    "trimmed_mean": {"attackers_max": 2},
    "multi_krum": {"selected": 2},
    "centered_clipping": {"radius": 20_000 / CLIP, "iterations": 3},
}


@pytest.mark.parametrize("rule", RULES)
@given(rounds())
@settings(max_examples=60)
def test_a_rule_gives_what_fractions_give(rule: str, members: InMemory) -> None:
    """However the columns are cut into pieces, and whatever the weights: to the bit what the slow rules give."""
    asked = policy(aggregation={"rule": rule}, robust=ASKED.get(rule, {}))
    expected = slow_sums.combined(asked, members.vectors.tolist(), members.weights.tolist())
    assert RULES[rule](members).tolist() == expected


@given(rounds())
@settings(max_examples=60)
def test_a_median_is_the_textbooks(members: InMemory) -> None:
    """With equal weights each coordinate is what the standard library calls its median."""
    members.weights[:] = ONE
    whole = ONE * len(members.weights)
    expected = [median_of(column) * whole for column in members.vectors.T.tolist()]
    assert robust.median(members).tolist() == expected


@given(rounds(), st.integers(1, 4))
@settings(max_examples=60)
def test_a_weight_is_so_many_members(members: InMemory, more: int) -> None:
    """A member of weight w counts as w members: the median of the weighted is that of the repeated."""
    weights = np.array([1 + (more + place) % 3 for place in range(len(members.weights))], np.int64)
    repeated = InMemory(np.repeat(members.vectors, weights, axis=0), np.ones(int(weights.sum()), np.int64))
    assert robust.median(InMemory(members.vectors, weights)).tolist() == robust.median(repeated).tolist()


@pytest.mark.parametrize("rule", RULES)
@given(rounds())
@settings(max_examples=30)
def test_a_liar_is_outvoted(rule: str, members: InMemory) -> None:
    """Six agree and one is anywhere: the result is theirs; by centered clipping it is within reach of its radius."""
    honest = np.repeat(members.vectors[:1], 7, axis=0)
    honest[6] = -members.vectors[1] - 7
    found = RULES[rule](InMemory(honest, np.full(7, ONE, np.int64)))
    if rule != "centered_clipping":
        assert found.tolist() == (honest[0] * 7 * ONE).tolist()
    else:
        assert np.linalg.norm(found / (7 * ONE)) <= 3 * 20_000 + members.parameters


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (robust.median, [4, 5, 6]),
        (lambda members: robust.trim_mean(members, f=1), [4, 5, 6]),
        (lambda members: robust.krum(members, f=0), [1, 2, 3]),
        (lambda members: robust.krum(members, f=0, selected=2), [2.5, 3.5, 4.5]),
        (lambda members: robust.clip_centered(members, radius=CLIP, iterations=1), [4, 5, 6]),
    ],
    ids=["Median()", "TrMean(1)", "Krum(1)", "MultiKrum(1)", "CenteredClipping()"],
)
def test_a_rule_gives_what_byzfl_publishes(rule: Callable[[InMemory], Grid], expected: list[float]) -> None:
    """The values of the examples in ByzFL 0.0.11's documentation; its Krum(f) is the paper's for f - 1."""
    members = InMemory(np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9]]) * 1_000, np.full(3, ONE))
    assert (rule(members) / (3 * ONE) / 1_000).tolist() == expected


MANY: dict[str, Callable[[InMemory], Grid]] = {
    "median": robust.median,
    "trimmed_mean": lambda members: robust.trim_mean(members, f=499),
    "krum": lambda members: robust.krum(members, f=400),
    "multi_krum": lambda members: robust.krum(members, f=400, selected=500),
    "centered_clipping": lambda members: robust.clip_centered(members, radius=robust.CLIP_STEPS_MAX, iterations=3),
}


@pytest.mark.parametrize("rule", MANY)
@pytest.mark.parametrize("sign", [1, -1, 0])
def test_the_largest_round_of_the_longest_fits(rule: str, sign: int) -> None:
    """A thousand identical updates as long as any may be, with the largest weight: no sum overflows."""
    row = np.array([[sign * robust.CLIP_STEPS_MAX, 0]], np.int64)
    members = InMemory(np.repeat(row, 1_000, axis=0), np.full(1_000, ONE))
    assert MANY[rule](members).tolist() == (row[0] * 1_000 * ONE).tolist()


@pytest.mark.parametrize("rule", MANY)
@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_nobody_moves_a_result_beyond_the_clip(rule: str, seed: int) -> None:
    """All members malicious, each as long as the clip: the place is within it in every coordinate."""
    drawn = np.random.default_rng(seed).normal(size=(1_000, 3))
    rows = np.trunc(drawn / np.linalg.norm(drawn, axis=1)[:, None] * robust.CLIP_STEPS_MAX).astype(np.int64)
    found = MANY[rule](InMemory(rows, np.full(1_000, ONE))) / (1_000 * ONE)
    assert np.abs(found).max() <= robust.CLIP_STEPS_MAX
