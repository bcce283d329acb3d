"""Masks in the ring of 2^32: known answers, exact clipping, and sums that come out to the last bit."""

from __future__ import annotations

import json
import runpy
import sys
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from hypothesis import given
from hypothesis import strategies as st

from schemas.masking.ring import add_weighted, expand_mask, mask, read_words, unmask, write_words
from schemas.tensors import BodyError, Quanta
from schemas.tensors.clipping import SCALE_ONE
from tests.root import ROOT

VECTORS = ROOT / "docs" / "masks" / "vectors.json"
CHECKER = ROOT / "docs" / "masks" / "check_vectors.py"


def _mask(vector: Any, seeds: list[bytes], *, header: bytes) -> bytes:
    """A vector that is clipped already."""
    return mask(Quanta.from_values(np.array(vector, np.int32)), SCALE_ONE, seeds=seeds, header=header)


def test_the_vectors_hold_for_code_that_shares_none() -> None:
    """What stands in docs/masks was made by other code than this, and holds; it has at most a hundred lines."""
    check = runpy.run_path(str(CHECKER))["check"]
    assert check(json.loads(VECTORS.read_text())) == 7
    assert len(CHECKER.read_text().splitlines()) <= 100


def test_the_vectors_are_ours() -> None:
    """The published masks, bodies and sums are those of this release."""
    told = json.loads(VECTORS.read_text())
    for each in told["masks"]:
        words = expand_mask(
            bytes.fromhex(each["seed"]), each["helper"], header=bytes.fromhex(each["header"]), count=each["count"]
        )
        assert [words[:4].tolist(), words[-4:].tolist()] == [each["first"], each["last"]]
    for member in told["round"]["members"]:
        seeds = [bytes.fromhex(seed) for seed in member["seeds"]]
        body = _mask(member["vector"], seeds, header=bytes.fromhex(member["header"]))
        assert body.hex() == member["body"]


def test_the_primitives_are_the_standard_s() -> None:
    """AES-256-CTR as in NIST SP 800-38A, F.5.5, and HKDF-Expand as in RFC 5869, A.1."""
    key = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
    counter = bytes.fromhex("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff")
    block = bytes.fromhex("6bc1bee22e409f96e93d7e117393172a")
    sealed = Cipher(AES256(key), CTR(counter)).encryptor().update(block)
    assert sealed.hex() == "601ec313775789a5b7a7f504bbf3d228"
    prk = bytes.fromhex("077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5")
    assert HKDFExpand(SHA256(), 42, bytes.fromhex("f0f1f2f3f4f5f6f7f8f9")).derive(prk).hex() == (
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    )


@given(
    members=st.lists(st.tuples(st.integers(-(1 << 20), 1 << 20), st.integers(1, 15)), min_size=1, max_size=60),
    helpers=st.integers(1, 2),
)
def test_a_sum_without_its_masks_is_the_sum(members: list[tuple[int, int]], helpers: int) -> None:
    """For any vectors and weights within the ring: exact, whatever the masks are."""
    total, off = np.zeros(3, np.uint32), [np.zeros(3, np.uint32) for _ in range(helpers)]
    for number, (value, weight) in enumerate(members):
        header, seeds = b"%d" % number, [bytes([number, helper] * 16) for helper in range(helpers)]
        body = _mask([value, -value, 0], seeds, header=header)
        add_weighted(total, read_words(body, parameters=3), weight=weight)
        for helper, seed in enumerate(seeds):
            add_weighted(off[helper], expand_mask(seed, helper, header=header, count=3), weight=weight)
    expected = sum(value * weight for value, weight in members)
    assert unmask(total, off).tolist() == [expected, -expected, 0]


def test_a_masked_vector_looks_like_any_other() -> None:
    """Each bit of a masked zero is set about as often as not: 5 sigma over a million."""
    body = _mask(np.zeros(31_250, np.int32), [bytes(32)], header=b"header")
    ones = int(np.unpackbits(np.frombuffer(body, np.uint8)).sum())
    assert abs(ones - 500_000) < 5 * 500


def test_other_words_give_other_masks() -> None:
    """Seed, helper and header each change the whole of it."""
    drawn = [
        expand_mask(seed, helper, header=header, count=8).tobytes()
        for seed in (bytes(32), b"\x01" * 32)
        for helper in (0, 1)
        for header in (b"a", b"b")
    ]
    assert len(set(drawn)) == len(drawn) == 8
    assert all(one[:4] != other[:4] for one, other in pairwise(drawn))


@pytest.mark.parametrize("length", [0, 11, 13, 16])
def test_only_the_right_length_is_read(length: int) -> None:
    """Nothing shorter or longer is a vector of three."""
    with pytest.raises(BodyError, match="expected 12"):
        read_words(bytes(length), parameters=3)
    assert write_words(read_words(bytes(12), parameters=3)) == bytes(12)
    assert sys.byteorder == "little" or write_words(np.array([1], np.uint32)) == b"\x01\0\0\0"
