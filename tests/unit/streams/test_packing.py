"""Records that hold many messages: what is one, what is none, and what taking it apart costs."""

from __future__ import annotations

from unittest.mock import patch

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.canonical import encode
from schemas.events import Tick
from schemas.signing import Signed
from schemas.topics import BODIES, CATALOGUE, CHECKINS, ENROLMENTS, TASKS, UPDATES
from streams import packing
from streams.log import Draft, Record, TopicPartition, scan
from streams.memory import MemoryLog
from streams.packing import (
    MESSAGES_MAX,
    PACKED_BYTES_MAX,
    Packed,
    append_packed,
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


DRAFTS = st.lists(
    st.builds(
        Draft,
        topic=st.sampled_from([CHECKINS.name, UPDATES.name, UPDATES.name, BODIES.name, ENROLMENTS.name]),
        partition=st.integers(0, 1),
        # Small ones in crowds, and some of which two fill a record.
        value=st.one_of(st.binary(max_size=8), st.integers(240_000, 400_000).map(bytes)).map(
            lambda data: b"\xc4" + data
        ),
        key=st.sampled_from([None, None, None, b"key"]),
    ),
    max_size=90,
)


@settings(max_examples=60)
@given(drafts=DRAFTS, copies=st.integers(1, 40))
def test_packing_on_the_way_in_changes_nothing_that_is_read(drafts: list[Draft], copies: int) -> None:
    """Law 2: in any order of topics and partitions, readers find each message once, in order, where it was said to be.

    What is no message of a device stays a record of its own, with its key.
    """
    drafts = drafts[:12] + [draft for draft in drafts[12:] if len(draft.value or b"") < 100] * copies
    packed, plain = MemoryLog(CATALOGUE), MemoryLog(CATALOGUE)
    offsets = append_packed(packed, drafts)
    plain.append(drafts)
    for at in {TopicPartition(draft.topic, draft.partition) for draft in drafts}:
        found = [message for record in scan(packed, at) for message in unpack(record)]
        assert [(each.key, each.value) for each in found] == [(each.key, each.value) for each in scan(plain, at)]
        told = [offset for offset, draft in zip(offsets, drafts, strict=True) if (draft.topic, draft.partition) == at]
        assert told == [each.offset for each in found]
        assert all(each.key is None or each.message == 0 for each in found)


def test_as_few_records_as_hold_them() -> None:
    """A crowd's messages fill records, up to the last message and byte; one that comes alone is a record as ever."""
    log = MemoryLog(CATALOGUE)
    crowd = [Draft(topic=UPDATES.name, partition=0, value=b"x")] * (2 * MESSAGES_MAX + 1)
    assert append_packed(log, crowd) == [0] * MESSAGES_MAX + [1] * MESSAGES_MAX + [2]
    assert [record.value for record in scan(log, TopicPartition(UPDATES.name, 0))][-1] == b"x"
    large = [Draft(topic=CHECKINS.name, partition=0, value=bytes(PACKED_BYTES_MAX // 3))] * 4
    assert append_packed(log, large) == [0, 0, 1, 1]


def test_nothing_is_appended_as_nothing() -> None:
    """Nobody's messages make no record."""
    assert append_packed(MemoryLog(CATALOGUE), []) == []
