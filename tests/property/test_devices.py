"""The selector's devices in columns say what a dictionary of objects would say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.deciders.devices import Device, Devices
from schemas.canonical import decode_state, encode_state

NAMES = st.sampled_from(["a", "b", "phone.7", "Z" * 63])
KEYS = st.binary(min_size=32, max_size=32)
ROUNDS = st.integers(0, 2**31 - 1)


@given(steps=st.lists(st.tuples(NAMES, KEYS | ROUNDS)))
def test_columns_say_what_a_dictionary_says(steps: list[tuple[str, bytes | int]]) -> None:
    """In whatever order devices come and take part, each reads back as it is, and no other one moves."""
    columns, plain = Devices(), dict[str, Device]()
    for name, step in steps:
        if isinstance(step, bytes):
            columns.add(name, step)
            plain.setdefault(name, Device(step))
        elif name in plain:
            columns.take_part(name, step)
            before = plain[name]
            plain[name] = Device(before.public_key, before.participations + 1, step)
        assert [*columns.items()] == [*plain.items()]
    assert len(columns) == len(plain)
    assert all(columns.get(name) == plain.get(name) for name in ("a", "b"))
    assert decode_state(encode_state(columns), Devices) == columns


def test_a_device_without_a_lease_is_unknown() -> None:
    """Neither asking for a device nor an update of it makes it known."""
    columns = Devices()
    assert columns.get("a") is None
    with pytest.raises(KeyError):
        columns.take_part("a", 1)
    assert len(columns) == 0
