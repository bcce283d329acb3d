"""The selector's devices in columns say what a dictionary of objects would say."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from actors.deciders.selecting.devices import Device, Devices
from schemas.canonical import decode_state, encode_state

NAMES = st.sampled_from(["a", "b", "phone.7", "Z" * 63])
LEASES = st.tuples(st.just("lease"), st.integers(0, 2**63 - 1))
ROUNDS = st.tuples(st.just("round"), st.integers(0, 2**31 - 1))


@given(steps=st.lists(st.tuples(NAMES, LEASES | ROUNDS)))
def test_columns_say_what_a_dictionary_says(steps: list[tuple[str, tuple[str, int]]]) -> None:
    """In whatever order devices come and take part, each reads back as it is, and no other one moves."""
    columns, plain = Devices(), dict[str, Device]()
    for name, (kind, number) in steps:
        before = plain.get(name, Device())
        if kind == "lease":
            columns.note_lease(name, number)
            plain[name] = before._replace(sent_ms=number)
        else:
            columns.take_part(name, number)
            plain[name] = before._replace(participations=before.participations + 1, round=number)
        assert [*columns.items()] == [*plain.items()]
    assert len(columns) == len(plain)
    assert all(columns.get(name) == plain.get(name) for name in ("a", "b"))
    assert decode_state(encode_state(columns), Devices) == columns


def test_asking_makes_nobody_known() -> None:
    """Only a lease or a participation does."""
    columns = Devices()
    assert columns.get("a") is None
    assert len(columns) == 0
