"""Records that hold many messages: what is one, what is none, and what taking it apart costs."""

from __future__ import annotations

from unittest.mock import patch

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.canonical import encode
from schemas.events import Tick
from schemas.signing import Signed
from schemas.topics import CHECKINS, TASKS, UPDATES
from streams import packing
from streams.log import Record
from streams.packing import (
    MESSAGES_MAX,
    PACKED_BYTES_MAX,
    Packed,
    count_messages,
    has_room,
    measure,
    pack,
    split_value,
    unpack,
)


def _record(value: bytes | None, topic: str = UPDATES.name) -> Record:
    return Record(topic, 3, 17, 1_000, b"key", value)


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=MESSAGES_MAX))
def test_messages_come_out_as_they_went_in(messages: list[bytes]) -> None:
    """Each is a record at the place of the one that held it, with its own number, in order."""
    value = pack(messages)
    found = unpack(_record(value))
    assert [record.value for record in found] == messages
    assert [record.message for record in found] == [*range(len(messages))]
    assert {(record.topic, record.partition, record.offset, record.time_ms, record.key) for record in found} == {
        (UPDATES.name, 3, 17, 1_000, b"key")
    }
    assert count_messages(value) == len(messages)


@pytest.mark.parametrize("value", [b"", b"\xc1", encode(Tick()), encode(Signed(b"said", bytes(64)))])
def test_a_message_alone_stays_as_it_is(value: bytes) -> None:
    """What every release before wrote is read as ever, and one message costs no byte more."""
    record = _record(value)
    assert pack([value]) == value
    assert [*unpack(record)] == [record]
    assert count_messages(value) == 1


@pytest.mark.parametrize("topic", [CHECKINS.name, UPDATES.name])
def test_devices_topics_hold_many(topic: str) -> None:
    """Both topics that devices write are read so."""
    assert len(unpack(_record(pack([b"a", b"b"]), topic))) == 2


def test_no_other_topic_holds_many() -> None:
    """What an operator or an actor writes is one record each, whatever its bytes look like."""
    record = _record(pack([b"a", b"b"]), TASKS.name)
    assert [*unpack(record)] == [record]


def test_a_record_in_a_message_is_not_looked_into() -> None:
    """However deep it goes, each message is one input."""
    nested = b"x"
    for _ in range(50):
        nested = pack([nested, b"y"])
    assert [record.value for record in unpack(_record(nested))][1:] == [b"y"]
    assert len(unpack(_record(nested))) == 2


def _header(count: int) -> bytes:
    return encode(Packed(()))[:-1] + (b"\xdc" + count.to_bytes(2) if count < 1 << 16 else b"\xdd" + count.to_bytes(4))


@pytest.mark.parametrize(
    "value",
    [
        encode(Packed(())),
        encode(Packed((b"x",) * (MESSAGES_MAX + 1))),
        _header(10_000) + b"\xc4\x01x" * 10_000,
        _header(1 << 31) + b"\xc4\x01x" * 3,
        _header(16) + b"\xc4\x01x" * 15,
        pack([b"a", b"b"])[:-1],
        pack([b"a", b"b"]) + b"\xc4\x00",
        _header(2) + b"\xc4\x01a\xc4\x01b",  # a longer form of the same number
        encode(Packed((bytes(PACKED_BYTES_MAX),))),
        _header(16)[:-2],
        encode(Packed(()))[:-1],
    ],
    ids=lambda value: f"{len(value)} bytes",
)
def test_what_only_looks_like_one_is_one_message(value: bytes) -> None:
    """Too many, too few, cut, longer than it says, another form, or too large: one input, which is junk."""
    record = _record(value)
    assert [*unpack(record)] == [record]
    assert 1 <= count_messages(value) <= MESSAGES_MAX


def test_a_hostile_record_is_not_taken_apart() -> None:
    """A record that says that it holds 10,000 messages costs a look at its first bytes, not 10,000 objects."""
    hostile = _header(10_000) + b"\xc4\x20" + bytes(32) * 10_000
    with patch.object(packing, "decode", side_effect=AssertionError):
        assert split_value(hostile) == (hostile,)
        assert split_value(encode(Packed((bytes(PACKED_BYTES_MAX),)))) != ()
    with patch.object(packing, "decode", side_effect=AssertionError), pytest.raises(AssertionError):
        split_value(pack([b"a", b"b"]))


def test_a_size_is_never_taken_for_less() -> None:
    """Whoever fills a record by `has_room` never fills it beyond what readers take, up to the last byte and message."""
    for size in (0, 31, 255, 256, 7_800, 65_535, 65_536):
        messages: list[bytes] = []
        taken = 0
        while has_room(taken, len(messages), message=bytes(size)):
            messages.append(bytes(size))
            taken += measure(bytes(size))
        value = pack(messages)
        assert len(split_value(value)) == len(messages)
        assert len(messages) == MESSAGES_MAX or len(value) + size + 64 > PACKED_BYTES_MAX


def test_too_many_or_too_large_go_into_no_record() -> None:
    """A record that readers would take for junk is never written."""
    for messages in ([b"x"] * (MESSAGES_MAX + 1), [bytes(250_000)] * 2, []):
        with pytest.raises(ValueError, match="do not go into one record"):
            pack(messages)


def test_its_form_is_fixed() -> None:
    """The bytes are those of the decision record: a word and a list, in msgpack."""
    assert msgspec.msgpack.decode(pack([b"a", b"b"])) == ["Packed/1", [b"a", b"b"]]
    assert pack([b"a", b"b"]) == b"\x92\xa8Packed/1\x92\xc4\x01a\xc4\x01b"
