"""What is handed to librdkafka at once."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from streams.bulk import UNDER_WAY_BYTES_MAX, portions
from streams.log import RECORD_BYTES_MAX, Draft

VALUES = [None, *map(bytes, (0, 1, 2**19, RECORD_BYTES_MAX - 2))]


@given(st.lists(st.sampled_from(range(len(VALUES))), max_size=20))
def test_portions_are_all_of_it_in_order_and_small(chosen: list[int]) -> None:
    """Law 2 begins here: nothing is lost, doubled or moved, no portion is too large, and no two could be one."""
    drafts = [Draft(topic="t", partition=0, key=b"%d" % number, value=VALUES[one]) for number, one in enumerate(chosen)]
    found = list(portions(drafts))
    assert [draft for few in found for draft in few] == drafts
    sizes = [sum(len(draft.value or b"") for draft in few) for few in found]
    assert all(size <= UNDER_WAY_BYTES_MAX for size in sizes)
    assert all(size + after > UNDER_WAY_BYTES_MAX for size, after in pairwise(sizes))
