"""The aggregator's outcomes in columns say what a dictionary of objects would say."""

from __future__ import annotations

from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.deciders import outcomes
from actors.deciders.outcomes import Outcomes
from schemas.canonical import decode_state, encode_state
from tests.worlds.builders import lease_id

WORDS = st.sampled_from(["admitted", "stale", "in_round", "closed"])
LEASES = st.integers(0, 60).map(lease_id)
ADDED = st.tuples(LEASES, WORDS, st.integers(0, 100))
FORGOTTEN = st.integers(0, 101)
NUMBERS = 1 << 32


def _forget(plain: dict[str, tuple[str, int]], before_ms: int) -> None:
    """The oldest ones, up to the first that is not over."""
    while plain and plain[first := next(iter(plain))][1] < before_ms:
        del plain[first]


@given(
    steps=st.lists(ADDED | ADDED | ADDED | FORGOTTEN, min_size=60, max_size=90),
    slots=st.sampled_from([2, 64]),
    begin=st.sampled_from([0, NUMBERS - 20]),
)
def test_columns_say_what_a_dictionary_says(steps: list[tuple[str, str, int] | int], slots: int, begin: int) -> None:
    """Law 2: whatever comes and is forgotten, in tables of any fullness, each lease has the outcome that it had first.

    `begin`: so many have been forgotten before, which is more than a number of the table can count.
    """
    with patch.object(outcomes, "_SLOTS_MIN", slots):
        columns, plain = Outcomes(), dict[str, tuple[str, int]]()
        columns._begin = begin
        for step in steps:
            if isinstance(step, int):
                columns.forget(step)
                _forget(plain, step)
            else:
                columns.add(step[0], step[1], deadline_ms=step[2])
                plain.setdefault(step[0], step[1:])
            assert len(columns) == len(plain)
            assert {lease for lease in map(lease_id, range(61)) if lease in columns} == plain.keys()
        assert all(columns.find(lease) == word for lease, (word, _) in plain.items())
        assert columns.find(lease_id(61)) is None
        restored = decode_state(encode_state(columns), Outcomes)
    assert restored == columns
    assert all(restored.find(lease) == word for lease, (word, _) in plain.items())


@pytest.mark.parametrize(("slots", "begin"), [(2, 0), (256, NUMBERS - 40)], ids=["half full", "numbers end"])
def test_no_gap_hides_a_row_behind_it(slots: int, begin: int) -> None:
    """Law 2: while the oldest are forgotten one by one the others are found, also where numbers begin anew."""
    with patch.object(outcomes, "_SLOTS_MIN", slots):
        columns = Outcomes()
        columns._begin = begin
        for number in range(64):
            columns.add(lease_id(number), "admitted", deadline_ms=number)
        for gone in range(1, 64):
            columns.forget(gone)
            assert [number for number in range(64) if lease_id(number) in columns] == list(range(gone, 64))


def test_an_outcome_takes_few_bytes() -> None:
    """A snapshot holds 25 bytes an outcome: a state of a million is read and written in one piece."""
    columns = Outcomes()
    for number in range(1_000):
        columns.add(lease_id(number), "admitted", deadline_ms=number)
    assert len(encode_state(columns)) < 1_000 * 25 + 100
