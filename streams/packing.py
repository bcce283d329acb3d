"""Many messages in one record of `checkins` or `updates`: what comes together costs one append and one delivery.

A message in a record is an input as one that is a record of its own: its place is the record's offset and its number in
the record. Bytes that only look like such a record are one message, and whoever reads them finds junk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import msgspec

from schemas.canonical import MalformedError, decode, encode
from schemas.topics import CHECKINS, UPDATES
from streams.log import Draft, EventLog, Record, TopicPartition

# Below what a journal's record has, because what is decided of these messages stands in one of those.
PACKED_BYTES_MAX = 500_000
MESSAGES_MAX = 64
TOPICS = frozenset((CHECKINS.name, UPDATES.name))
_PER_MESSAGE_BYTES = 5  # its length, where it is long


class Packed(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="Packed/1"):
    """The value of such a record."""

    messages: Annotated[tuple[bytes, ...], msgspec.Meta(min_length=1, max_length=MESSAGES_MAX)]


# No signed message begins so: the first thing in it is bytes, and here it is a word.
PACKED_BEGINS = encode(Packed(()))[:-1]
_OVERHEAD_BYTES = len(PACKED_BEGINS) + 3


def measure(message: bytes) -> int:
    """At most so many bytes a message takes in a record."""
    return len(message) + _PER_MESSAGE_BYTES


def has_room(packed_bytes: int, count: int, *, message: bytes) -> bool:
    """Whether one more message goes into a record that holds `count`, of so many bytes together by `measure`."""
    return count < MESSAGES_MAX and packed_bytes + measure(message) <= PACKED_BYTES_MAX - _OVERHEAD_BYTES


def pack(messages: Sequence[bytes]) -> bytes:
    """The value of the record that holds these messages, in this order; one alone stays as it is.

    Raises ValueError where they are too many, or too large together.
    """
    if len(messages) == 1:
        return messages[0]
    value = encode(Packed(tuple(messages)))
    if not 0 < len(messages) <= MESSAGES_MAX or len(value) > PACKED_BYTES_MAX:
        raise ValueError(f"{len(messages)} messages of {len(value)} bytes do not go into one record")
    return value


def append_packed(log: EventLog, drafts: Sequence[Draft]) -> list[int]:
    """Append drafts as `log.append` does, messages of one partition in as few records as hold them.

    Returns the offset of the record in which each draft stands, in their order. Messages of a partition keep theirs.
    """
    records, places = pack_drafts(drafts)
    offsets = log.append(records)
    return [offsets[place] for place in places]


def pack_drafts(drafts: Sequence[Draft]) -> tuple[list[Draft], list[int]]:
    """The records in which these drafts travel, and in which of them each is."""
    shares: list[_Share] = []
    places: list[int] = []
    open_at: dict[TopicPartition, int] = {}
    for draft in drafts:
        at = TopicPartition(draft.topic, draft.partition)
        place = open_at.get(at)
        if place is None or not shares[place].has_room(draft):
            place = open_at[at] = len(shares)
            shares.append(_Share())
        shares[place].add(draft)
        places.append(place)
    return [share.make_record() for share in shares], places


@dataclass(slots=True)
class _Share:
    """The drafts of one record."""

    drafts: list[Draft] = field(default_factory=list)
    size: int = 0

    def has_room(self, draft: Draft) -> bool:
        is_message = draft.topic in TOPICS and draft.key is None and self.drafts[0].key is None
        return is_message and has_room(self.size, len(self.drafts), message=draft.value or b"")

    def add(self, draft: Draft) -> None:
        self.drafts.append(draft)
        self.size += measure(draft.value or b"")

    def make_record(self) -> Draft:
        first = self.drafts[0]
        if len(self.drafts) == 1:
            return first
        value = pack([draft.value or b"" for draft in self.drafts])
        return Draft(topic=first.topic, partition=first.partition, value=value)


def count_messages(value: bytes) -> int:
    """How many messages a value says that it holds, at least 1; only its first bytes are read."""
    return max(1, _read_count(value))


def split_value(value: bytes) -> tuple[bytes, ...]:
    """The messages in a value, in their order; the value itself where it holds no others."""
    # Asked first, so that nothing is taken apart in vain: a value may say that it holds more than anybody will read.
    if not _read_count(value):
        return (value,)
    try:
        # A record in a message is a message: it is not looked into, however deep it goes.
        return decode(value, Packed).messages
    except MalformedError:
        return (value,)


def unpack(record: Record) -> Sequence[Record]:
    """The messages in a record, each as a record at its place; the record itself where it holds no others."""
    value = record.value
    if value is None or record.topic not in TOPICS or not value.startswith(PACKED_BEGINS):
        return (record,)
    topic, partition, offset, time_ms, key = record.topic, record.partition, record.offset, record.time_ms, record.key
    return [
        Record(topic, partition, offset, time_ms, key, message, number)
        for number, message in enumerate(split_value(value))
    ]


def _read_count(value: bytes) -> int:
    """How many messages a value says that it holds; 0 where it is no such record, or too large for one."""
    if not value.startswith(PACKED_BEGINS) or len(value) > PACKED_BYTES_MAX:
        return 0
    # As msgpack writes the length of a list: in one byte below 16, else in two more; what is longer is too long.
    rest = value[len(PACKED_BEGINS) : len(PACKED_BEGINS) + 3]
    first, more = rest[:1], rest[1:]
    if first == b"\xdc":
        count = int.from_bytes(more)
    else:
        count = first[0] - 0x90 if b"\x90" < first < b"\xa0" else 0
    return count if count <= MESSAGES_MAX else 0
