"""Vectors modulo 2^32: a device masks one, an aggregator adds them, and helpers say what comes off the sum.

    key | iv = HKDF-Expand-SHA256(seed, "hmask1|mask|j|" | header, 48)         j: the helper's number, in decimal digits
    mask     = the AES-256-CTR keystream under them (NIST SP 800-38A), read as little-endian uint32
    masked   = q + mask_0 + ... + mask_(n-1) mod 2^32, little-endian uint32, which no codec makes shorter

A sum of masked vectors less the sums of their masks, each with the same whole weights, is the weighted sum of the
vectors, as long as that stays within 2^31 on either side.
"""

from __future__ import annotations

from collections.abc import Iterable
from io import BytesIO

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from schemas.tensors import BodyError, Grid, Quanta
from schemas.tensors.clipping import clip_pieces

SEED_BYTES = 32
WORD_BYTES = 4
# The codec of a masked vector, and of a sum of masks, as a BodyRef names it.
RING = "ring32"
# A sum has to stay on one side of it, or it wraps around.
HALF = 1 << 31
_KEY_BYTES, _IV_BYTES = 32, 16
_AT_ONCE = 1 << 16
_ZEROS = bytes(WORD_BYTES * _AT_ONCE)

Words = npt.NDArray[np.uint32]


def expand_mask(seed: bytes, helper: int, *, header: bytes, count: int) -> Words:
    """The mask of one helper for one update, uint32 of shape (count,); `header` is what `seeds.write_header` gives."""
    words = np.zeros(count, np.uint32)
    add_mask(words, seed, helper=helper, header=header)
    return words


def add_mask(total: Words, seed: bytes, *, helper: int, header: bytes, weight: int = 1) -> None:
    """Add `weight` times a mask to `total`, in place, modulo 2^32."""
    stream, room = _start_stream(seed, helper, header=header), _make_room()
    # Piece by piece, because memory that is touched for the first time costs more than the cipher.
    for start in range(0, total.size, _AT_ONCE):
        _add_words(total[start : start + _AT_ONCE], stream, room=room, weight=weight)


def mask(quanta: Quanta, scale: int, *, seeds: Iterable[bytes], header: bytes) -> bytes:
    """What leaves the device in the place of a vector, which is clipped by its scale; one seed a helper, in order."""
    assert quanta.indices is None
    streams = [_start_stream(seed, helper, header=header) for helper, seed in enumerate(seeds)]
    room = _make_room()
    # Clipped and masked where it is sent from, for the same reason.
    sent = BytesIO(bytes(WORD_BYTES * quanta.parameters))
    with sent.getbuffer() as buffer:
        for place, clipped in clip_pieces(quanta, scale):
            piece = np.frombuffer(buffer, "<u4", clipped.size, offset=WORD_BYTES * place.start)
            piece[:] = clipped.view(np.uint32)
            for stream in streams:
                _add_words(piece, stream, room=room)
        del piece
    return sent.getvalue()


def _start_stream(seed: bytes, helper: int, *, header: bytes) -> CipherContext:
    info = b"hmask1|mask|%d|" % helper + header
    derived = HKDFExpand(SHA256(), _KEY_BYTES + _IV_BYTES, info).derive(seed)
    return Cipher(AES256(derived[:_KEY_BYTES]), CTR(derived[_KEY_BYTES:])).encryptor()


def _make_room() -> bytearray:
    # A cipher asks for the room of one block more than it writes.
    return bytearray(len(_ZEROS) + _IV_BYTES)


def _add_words(piece: Words, stream: CipherContext, *, room: bytearray, weight: int = 1) -> None:
    """Add the next words of a keystream, times `weight`; `room` is for those."""
    stream.update_into(_ZEROS[: WORD_BYTES * piece.size], room)
    words = np.frombuffer(room, "<u4", piece.size)
    piece += words if weight == 1 else words * np.uint32(weight)


def read_words(data: bytes, *, parameters: int) -> Words:
    """A masked vector, or a sum of masks, uint32 of shape (parameters,). Raises BodyError for another length."""
    if len(data) != WORD_BYTES * parameters:
        raise BodyError("body_malformed", f"{len(data)} bytes, expected {WORD_BYTES * parameters}")
    return np.frombuffer(data, "<u4")


def write_words(words: Words) -> bytes:
    """The same as bytes."""
    return words.astype("<u4", copy=False).tobytes()


def add_weighted(total: Words, words: Words, *, weight: int) -> None:
    """Add `weight` times a vector to `total`, in place, modulo 2^32."""
    # In slices, so that the product of a large vector does not double the memory.
    for start in range(0, total.size, _AT_ONCE):
        total[start : start + _AT_ONCE] += words[start : start + _AT_ONCE] * np.uint32(weight)


def unmask(total: Words, masks: Iterable[Words]) -> Grid:
    """The sum without its masks, int64 of shape (parameters,), each element in -2^31 ... 2^31 - 1."""
    left = total.copy()
    for words in masks:
        left -= words
    return left.astype(np.uint32, copy=False).view(np.int32).astype(np.int64)
