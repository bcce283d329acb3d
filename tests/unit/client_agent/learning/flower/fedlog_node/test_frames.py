"""Frames between fedlog and the process of a Flower app."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest

from client_agent.learning.flower.fedlog_node.frames import (
    HEAD_BYTES,
    FrameError,
    decode_frame,
    encode_frame,
    list_frames,
)


def test_a_frame_brings_arrays_and_bytes_as_they_are() -> None:
    """Types, shapes and values, at any depth; also what has no element, or no axis."""
    arrays = [np.arange(6, dtype=np.int16).reshape(2, 3), np.zeros((0, 4)), np.array(3.5, np.float32), np.array([True])]
    sent = {"a": [{"b": array} for array in arrays], "c": b"\x00\xff", "d": [1, 2.5, "text", None, True], "e": {}}
    frame = encode_frame(sent)
    found = decode_frame(frame[:HEAD_BYTES], frame[HEAD_BYTES:])
    assert {name: found[name] for name in "cde"} == {name: sent[name] for name in "cde"}
    for array, item in zip(arrays, found["a"], strict=True):
        assert (item["b"].dtype, item["b"].shape) == (array.dtype, array.shape)
        assert np.array_equal(item["b"], array)
        item["b"][...] = 0


def test_a_stream_of_frames_is_read_to_its_end() -> None:
    """A frame that is cut off at the end is left out."""
    stream = encode_frame({"n": 1}) + encode_frame({"n": 2})
    assert [frame["n"] for frame in list_frames(io.BytesIO(stream).read)] == [1, 2]
    assert [frame["n"] for frame in list_frames(io.BytesIO(stream[:-1]).read)] == [1]


@pytest.mark.parametrize(
    "frame",
    [
        struct.pack(">QI", 1 << 60, 2),
        struct.pack(">QI", 1, 2) + b"{}",
        struct.pack(">QI", 2, 2) + b"[]",
        struct.pack(">QI", 2, 2) + b"{]",
        struct.pack(">QI", 35, 35) + b'{"a": {"$array": ["|O", [1], 0, 8]}}'[:35],
        struct.pack(">QI", 36, 36) + b'{"a": {"$array": ["<f8", [9], 0, 8]}}'[:36],
    ],
)
def test_what_is_no_frame_is_refused(frame: bytes) -> None:
    """Whatever an app's process writes, it costs neither memory nor the reader."""
    with pytest.raises(FrameError):
        list(list_frames(io.BytesIO(frame).read))
    with pytest.raises(FrameError):
        encode_frame({"a": np.array([{}])})
