"""Canonical bytes: what is out of its bounds, in another order or too long is refused before anything looks at it."""

from __future__ import annotations

import msgspec
import pytest

from schemas.canonical import (
    JOURNAL_RECORD_BYTES_MAX,
    MalformedError,
    decode,
    decode_state,
    encode,
    encode_state,
    to_plain,
)
from schemas.events import DeviceCheckedIn, RoundOpened, Tick
from schemas.journal import JournalPosition, Position
from tests.worlds.builders import device_checked_in

CHECKIN = device_checked_in("phone-7", public_key=bytes(34), idle=False)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("task", "Digits"),
        ("task", "a" * 64),
        ("task", "digits\n"),
        ("device", "../etc"),
        ("device", ""),
        ("cohort", "a b"),
        ("public_key", bytes(33)),
        ("public_key", bytes(36)),
        ("battery_percent", 101),
        ("battery_percent", -1),
        ("samples", -1),
        ("samples", True),
        ("charging", 1),
        ("idle", None),
    ],
)
def test_a_value_out_of_its_bounds_is_refused(field: str, value: object) -> None:
    """Names, keys and counts are bounded before anything looks at them."""
    # What is not set is left out of the bytes.
    fields = {name: said for name, said in msgspec.structs.asdict(CHECKIN).items() if said is not msgspec.UNSET}
    data = encode({"type": "DeviceCheckedIn/1", **fields, field: value})
    with pytest.raises(MalformedError):
        decode(data, DeviceCheckedIn)
    assert decode(encode({"type": "DeviceCheckedIn/1", **fields}), DeviceCheckedIn) == CHECKIN


def test_a_state_is_written_like_everything_else_whatever_its_size() -> None:
    """Digests and snapshots are over canonical bytes; a state may be larger than a record, and is as strictly read."""
    state = {"places": {1: "a"}, "rows": bytearray(JOURNAL_RECORD_BYTES_MAX)}
    kind = dict[str, dict[int, str] | bytearray]
    data = encode_state(state)
    assert data == encode(state)
    assert decode_state(data, kind) == state
    for other in (data + b"\x00", data[:-1], data.replace(b"\x81\x01\xa1", b"\x81\xcc\x01\xa1")):
        with pytest.raises(MalformedError):
            decode_state(other, kind)


def test_another_fact_is_not_taken_for_this_one() -> None:
    """The tag decides what a record is; one fact never passes for another."""
    with pytest.raises(MalformedError):
        decode(encode(Tick()), RoundOpened)
    with pytest.raises(MalformedError):
        decode(encode(CHECKIN).replace(b"DeviceCheckedIn/1", b"DeviceCheckedIn/2"), DeviceCheckedIn)


def test_fields_in_another_order_are_refused() -> None:
    """A map with the right pairs in another order is another byte string, hence refused."""
    with pytest.raises(MalformedError):
        decode(encode({"task": "digits", "round": 1, "type": "RoundOpened/1"}), RoundOpened)


def test_a_record_has_a_longest_length() -> None:
    """Law 5: a record above 512 KiB is refused before it is parsed."""
    with pytest.raises(MalformedError, match=str(JOURNAL_RECORD_BYTES_MAX)):
        decode(bytes(JOURNAL_RECORD_BYTES_MAX + 1), Tick)


def test_people_see_bytes_as_hex() -> None:
    """`to_plain` gives JSON types at every depth."""
    shown = to_plain(Position(offsets={"updates": 3}, journals={"rounds": JournalPosition(head=b"\x01" * 32)}))
    at = {"claim": -1, "seq": -1, "head": "01" * 32, "key": "00" * 32}
    assert shown == {"offsets": {"updates": 3}, "journals": {"rounds": at}}
