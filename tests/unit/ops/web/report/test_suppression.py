"""Nobody computes the size of a small group from what is shown, not even by knowing the rule to the letter."""

from __future__ import annotations

import itertools
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.web.report.suppression import SMALL, ShownSizes, suppress

SIZES_MAX = 10


@pytest.mark.parametrize(("small", "groups"), [(3, 1), (3, 2), (3, 3), (3, 4), (4, 3), (5, 2)])
def test_a_hidden_group_may_have_any_small_size(small: int, groups: int) -> None:
    """Of all worlds that look the same, a small group has every size from 1 up in some: the whole table is inverted.

    Whoever inverts it knows the rule, how many groups there are, which are hidden, and that one of them is small.
    """
    worlds: dict[tuple[object, ...], list[tuple[int, ...]]] = defaultdict(list)
    for sizes in itertools.product(range(1, SIZES_MAX + 1), repeat=groups):
        shown = suppress({str(number): size for number, size in enumerate(sizes)}, small=small)
        worlds[tuple(sorted(shown.groups)), shown.others, shown.total, shown.line].append(sizes)
    judged = 0
    for alike in worlds.values():
        # Of a larger sum not all worlds are in the product, and those that are would look like all.
        if sum(alike[0]) > SIZES_MAX + groups - 1:
            continue
        for number in range(groups):
            found = {sizes[number] for sizes in alike if sizes[number] < small}
            judged += bool(found)
            assert found in (set(), set(range(1, small))), alike
    assert judged


def test_what_hides_nobody_is_shown() -> None:
    """Groups that are large enough stand with their sizes, the largest first, and the total."""
    shown = suppress({"phones": 20, "tablets": 31})
    assert shown == ShownSizes(groups=[("tablets", 31), ("phones", 20)], others=0, total=51)


def test_a_small_group_takes_others_with_it() -> None:
    """One group that is too small would be the total less the rest; so the line rises until it is not."""
    shown = suppress({"phones": 60, "tablets": 12, "watches": 3})
    assert shown == ShownSizes(groups=[("phones", 60)], others=15, total=75, line=20)


def test_a_total_that_gives_a_group_away_is_not_shown() -> None:
    """One small group alone, and two whose sum leaves no choice."""
    nothing = ShownSizes(groups=[], others=None, total=None)
    assert suppress({"watches": 9}) == suppress({"watches": 1, "phones": 1}) == nothing
    assert suppress({"phones": 35, "watches": 3}).groups == []
    assert suppress({}) == nothing


@given(st.lists(st.integers(1, 300), max_size=9))
def test_no_hidden_size_follows_from_what_is_shown(sizes: list[int]) -> None:
    """No group that is shown is small, and each hidden one may have one member, or as many as a group that is shown."""
    shown = suppress({str(number): size for number, size in enumerate(sizes)})
    names = {name for name, _ in shown.groups}
    hidden = [size for number, size in enumerate(sizes) if str(number) not in names]
    assert all(size >= SMALL for _, size in shown.groups)
    if shown.total is None:
        # Nothing at all is known then, not even how many there are.
        assert not shown.groups
        assert shown.others is None
        return
    together = shown.total - sum(size for _, size in shown.groups)
    assert together == shown.others == sum(hidden)
    if hidden:
        most = together - (len(hidden) - 1)
        least = 1 if shown.line is None else together - (len(hidden) - 1) * (shown.line - 1)
        assert most >= SMALL
        assert least <= 1
