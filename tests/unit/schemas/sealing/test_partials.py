"""A sealed sum opens for its members, and says what it is in one form."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.canonical import encode
from schemas.policy.metrics import MetricSums
from schemas.sealing.envelopes import EpochSecret, seal
from schemas.sealing.partials import PartialBinding, open_partial, seal_partial
from schemas.tensors import BodyError

SECRET = EpochSecret(hashlib.sha512(b"secret").digest() + hashlib.sha256(b"secret").digest())
BINDING = PartialBinding(deployment=b"d" * 16, task="digits", epoch=3, round=4, members_root=b"r" * 32)


@given(st.binary(max_size=400), st.none() | st.lists(st.integers(-(2**62), 2**62), max_size=8))
def test_what_was_sealed_opens(total: bytes, sums: list[int] | None) -> None:
    """Sums of metrics are larger than a report, and come out whole."""
    metrics = None if sums is None else MetricSums(sums=tuple(sums), samples=9)
    envelope = seal_partial(total, metrics, binding=BINDING, secret=SECRET)
    assert open_partial(envelope, BINDING, secret=SECRET) == (total, metrics)


@given(st.binary(max_size=60))
def test_anything_else_is_refused_in_one_way(data: bytes) -> None:
    """A sum that cannot be read is recomputed, and ends nothing."""
    for envelope in (data, seal(data, SECRET.public_key, info=encode(BINDING))):
        try:
            total, metrics = open_partial(envelope, BINDING, secret=SECRET)
        except BodyError:
            continue
        assert metrics is None
        assert data.endswith(total)


def test_a_sum_of_other_members_is_none() -> None:
    """The root of the members is what it was sealed for."""
    envelope = seal_partial(b"sum", None, binding=BINDING, secret=SECRET)
    other = PartialBinding(deployment=b"d" * 16, task="digits", epoch=3, round=4, members_root=b"s" * 32)
    with pytest.raises(BodyError, match="not_opened"):
        open_partial(envelope, other, secret=SECRET)
