"""A frame holds one record, and shows at once when it holds another."""

from __future__ import annotations

import hashlib

import msgspec
import pytest

from streams.exported.format import FrameDamaged, decode_frames, encode_frame
from streams.log import Record, TopicPartition

AT = TopicPartition("rounds", 3)
RECORDS = [Record(*AT, offset, 1_000 + offset, key, value) for offset, key, value in ((4, b"k", None), (6, None, b"v"))]
DATA = b"".join(map(encode_frame, RECORDS))


def test_frames_give_back_their_records() -> None:
    """Offset, time, key and value: all that a record has."""
    assert [*decode_frames(DATA, AT)] == RECORDS
    assert [*decode_frames(b"", AT)] == []


def test_a_frame_that_ends_early_is_damaged() -> None:
    """The error names the record and the byte at which its frame begins."""
    with pytest.raises(FrameDamaged) as caught:
        list(decode_frames(DATA[:-1], AT))
    assert (caught.value.offset, caught.value.byte) == (6, len(encode_frame(RECORDS[0])))


@pytest.mark.parametrize("row", [[6, 1, None], [8, 1, None, b"v"], "junk"])
def test_a_row_of_another_form_or_offset_is_damaged(row: object) -> None:
    """A digest over it can be made by anybody; its form and its offset are looked at too."""
    data = msgspec.msgpack.encode(row)
    frame = (6).to_bytes(8, "big") + len(data).to_bytes(4, "big") + hashlib.sha256(data).digest() + data
    with pytest.raises(FrameDamaged):
        list(decode_frames(frame, AT))
