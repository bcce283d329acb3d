"""An envelope opens for whom and for what it was sealed, and for nothing else; its length tells little."""

from __future__ import annotations

import hashlib

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.canonical import encode
from schemas.policy.metrics import METRIC_MAX, METRICS_MAX
from schemas.sealing.envelopes import (
    ENVELOPE_BYTES,
    SECRET_BYTES,
    Binding,
    Contents,
    EpochSecret,
    compute_stored_bytes_max,
    list_sizes,
    open_body,
    seal,
    seal_body,
)
from schemas.tensors import BodyError, encode_update
from tests.worlds.builders import policy, private_policy

SECRET = EpochSecret(hashlib.sha512(b"secret").digest() + hashlib.sha256(b"secret").digest())
OTHER = EpochSecret(hashlib.sha512(b"other").digest() + hashlib.sha256(b"other").digest())
BINDING = Binding(
    deployment=b"d" * 16, task="digits", policy_sha256=b"p" * 32, epoch=3, lease="0" * 32, device="phone", version=7
)
SIZES = (256, 512, 1024)


@given(st.binary(max_size=900), st.lists(st.integers(-METRIC_MAX, METRIC_MAX), max_size=8))
def test_what_was_sealed_opens_and_has_one_of_the_sizes(body: bytes, metrics: list[int]) -> None:
    """Whatever a device puts inside comes out; of its length outside only the size class is seen."""
    contents = Contents(body, tuple(metrics))
    envelope = seal_body(contents, BINDING, public_key=SECRET.public_key, sizes=SIZES)
    assert len(envelope) - ENVELOPE_BYTES in SIZES
    assert open_body(envelope, BINDING, secret=SECRET) == contents
    assert len(body) < 16 or body not in envelope


@pytest.mark.parametrize("word", BINDING.__struct_fields__)
def test_each_word_of_the_binding_is_needed(word: str) -> None:
    """Moved to another lease, device, task, version, epoch, policy or deployment, a body opens nowhere."""
    envelope = seal_body(Contents(b"body"), BINDING, public_key=SECRET.public_key, sizes=SIZES)
    value = getattr(BINDING, word)
    moved = {bytes: lambda: b"x" + value[1:], str: lambda: "1" + value[1:], int: lambda: value + 1}[type(value)]()
    with pytest.raises(BodyError, match="not_opened"):
        open_body(envelope, msgspec.structs.replace(BINDING, **{word: moved}), secret=SECRET)


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_changed_byte_opens_nothing(place: int, change: int) -> None:
    """Nobody on the way can change what a device has sent, nor have it opened with another key."""
    envelope = bytearray(seal_body(Contents(b"body"), BINDING, public_key=SECRET.public_key, sizes=SIZES))
    envelope[place % len(envelope)] ^= change
    with pytest.raises(BodyError, match="not_opened"):
        open_body(bytes(envelope), BINDING, secret=SECRET)
    whole = seal_body(Contents(b"body"), BINDING, public_key=SECRET.public_key, sizes=SIZES)
    with pytest.raises(BodyError, match="not_opened"):
        open_body(whole, BINDING, secret=OTHER)


@given(st.binary(max_size=4096))
def test_any_bytes_are_refused_in_one_way(data: bytes) -> None:
    """What a device sends in the place of an envelope is a fault of its body, and no failure of ours."""
    with pytest.raises(BodyError):
        open_body(data, BINDING, secret=SECRET)


@given(st.binary(max_size=300))
def test_any_plaintext_is_read_or_refused(plaintext: bytes) -> None:
    """A device with the key may seal anything: it is the one form of its content, or malformed."""
    try:
        contents = open_body(seal(plaintext, SECRET.public_key, info=encode(BINDING)), BINDING, secret=SECRET)
    except BodyError as error:
        contents, fault = None, error.fault
    if contents is None:
        assert fault == "body_malformed"
        return
    head = encode([len(contents.body), contents.metrics])
    assert plaintext.startswith(len(head).to_bytes(2, "little") + head + contents.body)


def test_padding_holds_nothing() -> None:
    """Bytes behind the body would be read by nobody, and signed."""
    head = encode([4, ()])
    plaintext = len(head).to_bytes(2, "little") + head + b"body" + bytes(7)
    for hidden in (plaintext + b"x", plaintext[:-9]):
        with pytest.raises(BodyError, match="padding"):
            open_body(seal(hidden, SECRET.public_key, info=encode(BINDING)), BINDING, secret=SECRET)
    assert open_body(seal(plaintext, SECRET.public_key, info=encode(BINDING)), BINDING, secret=SECRET).body == b"body"


@pytest.mark.parametrize("codec", ["float32", "float16", "int8", "int4", "topk"])
def test_every_update_fits_the_largest_size(codec: str) -> None:
    """The longest body of a codec, with as many metrics as there may be, still has a size."""
    rules = policy(compression={"codec": codec, "topk_fraction": 1.0}, tier="sealed")
    delta = np.random.default_rng(1).uniform(-1, 1, 5000).astype(np.float32)
    contents = Contents(encode_update(delta, rules), (METRIC_MAX,) * METRICS_MAX)
    envelope = seal_body(contents, BINDING, public_key=SECRET.public_key, sizes=list_sizes(rules, 5000))
    assert len(envelope) <= compute_stored_bytes_max(rules, 5000)


def test_a_zero_vector_does_not_show_with_privacy() -> None:
    """With privacy there is one size: else a device that could not train would show by its length."""
    assert len(list_sizes(private_policy(tier="sealed"), 5000)) == 1
    assert len(list_sizes(policy(tier="sealed"), 5000)) == 4


def test_a_key_of_another_length_is_none() -> None:
    """A file that was cut is no key, rather than one of another kind."""
    with pytest.raises(ValueError, match="expected 96"):
        EpochSecret(bytes(SECRET_BYTES - 1))
