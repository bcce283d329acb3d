"""Bodies: every codec within the grid's bound, and nothing that a stranger sends costs more than its size."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from schemas.policy import Policy
from schemas.tensors import (
    BodyError,
    Grid,
    body_bytes_max,
    compress,
    decompress,
    encode_update,
    from_grid,
    pack,
    payload_bytes,
    read_back,
    read_update,
    to_grid,
    unpack,
)
from tests.judges import slow_sums
from tests.worlds.builders import policy

CODECS = ("float32", "float16", "int8", "int4", "topk")
D = 5_000


def _rules(codec: str, **fields: float) -> Policy:
    return policy(compression={"codec": codec, **fields}, clipping={"norm": 2.0, "steps": 1 << 16})


def _decode(data: bytes, rules: Policy, *, parameters: int) -> Grid:
    return read_update(data, rules, parameters=parameters).grid()


def _fault(data: bytes, rules: Policy, parameters: int = D) -> str:
    with pytest.raises(BodyError) as caught:
        _decode(data, rules, parameters=parameters)
    return caught.value.fault


@given(seed=st.integers(0, 2**32), size=st.sampled_from([1, 2, 127, 4096, 4097, 9000]), codec=st.sampled_from(CODECS))
def test_a_codec_gives_back_the_delta_within_its_bound(seed: int, size: int, codec: str) -> None:
    """float32: exactly rint(delta/step). int8, int4: within half a multiplier. topk: those kept so, the rest zero."""
    rules = _rules(codec, topk_fraction=0.25)
    delta = np.random.default_rng(seed).normal(0, 0.3, size).clip(-3.9, 3.9).astype(np.float32)
    grid = to_grid(delta, rules.clipping)
    decoded = _decode(encode_update(delta, rules), rules, parameters=size)
    assert decoded.dtype == np.int64
    if codec == "float32":
        assert np.array_equal(decoded, grid)
    bound = max(1, -(-int(np.abs(grid).max()) // (7 if codec == "int4" else 127))) / 2
    kept = decoded != 0 if codec == "topk" else np.ones(size, bool)
    assert np.abs(decoded - grid)[kept].max(initial=0) <= bound
    if codec == "topk":
        assert kept.sum() <= max(1, -(-size // 4))


def test_topk_keeps_the_largest() -> None:
    """Top-k is the k largest elements, with the error of their codec, and exactly zero elsewhere."""
    delta = np.zeros(10, np.float32)
    delta[[2, 5, 7, 9]] = [1.0, -1.9, 0.001, 1.5]
    decoded = _decode(
        encode_update(delta, _rules("topk", topk_fraction=0.3)), _rules("topk", topk_fraction=0.3), parameters=10
    )
    assert [*np.flatnonzero(decoded)] == [2, 5, 9]


@pytest.mark.parametrize("codec", CODECS)
def test_a_delta_at_the_clip_fits_every_codec(codec: str) -> None:
    """A device that clips elementwise at the norm is never out of the grid, whatever its codec rounds up."""
    delta = np.full(D, 2.0, np.float32) * np.where(np.arange(D) % 2, 1, -1).astype(np.float32)
    decoded = _decode(encode_update(delta, _rules(codec)), _rules(codec), parameters=D)
    assert 0 <= np.abs(decoded).max() - (1 << 16) <= 1 << 8


def test_twice_the_clip_is_the_last_that_passes() -> None:
    """Elements up to 2C exactly are within the grid; the clip of the norm comes later, exactly."""
    delta = np.array([4.0, -4.0], np.float32)
    assert _decode(encode_update(delta, _rules("float32")), _rules("float32"), parameters=2).tolist() == [
        2 << 16,
        -2 << 16,
    ]


@pytest.mark.parametrize("codec", CODECS)
def test_what_a_server_sees_is_what_the_device_subtracts(codec: str) -> None:
    """`from_grid` gives back the delta on the grid, which error feedback takes from the residual."""
    rules = _rules(codec)
    delta = (np.arange(-8, 8) / 8).astype(np.float32)
    assert (
        to_grid(from_grid(to_grid(delta, rules.clipping), rules.clipping), rules.clipping).tolist()
        == to_grid(delta, rules.clipping).tolist()
    )


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("tier", ["plain", "masked"])
def test_whoever_encodes_knows_what_a_reader_gets(codec: str, tier: str) -> None:
    """Error feedback and masks rest on it: to the bit what is read from the body, also from one that is a mere copy."""
    rules = replace(_rules(codec), tier=tier)
    delta = np.random.default_rng(3).normal(0, 0.3, D).clip(-3.9, 3.9).astype(np.float32)
    body = encode_update(delta, rules)
    assert np.array_equal(read_back(delta, body, policy=rules).grid(), _decode(body, rules, parameters=D))
    assert decompress(body, payload_bytes(rules.compression, D))


@given(data=st.binary(max_size=300), codec=st.sampled_from(CODECS), parameters=st.integers(1, 64))
def test_random_bytes_raise_body_error_and_nothing_else(data: bytes, codec: str, parameters: int) -> None:
    """No body at all raises anything but BodyError."""
    try:
        _decode(data, _rules(codec), parameters=parameters)
    except BodyError:
        return


@given(data=st.data(), codec=st.sampled_from(CODECS), parameters=st.integers(1, 64))
def test_random_payloads_decode_within_the_grid_or_raise_body_error(
    data: st.DataObject, codec: str, parameters: int
) -> None:
    """Any payload of the right length is a vector within 2C or a BodyError: what the slow path makes of it."""
    rules = _rules(codec)
    size = payload_bytes(rules.compression, parameters)
    body = compress(data.draw(st.binary(min_size=size, max_size=size)))
    assert _outcome(_decode, body, rules, parameters) == _outcome(slow_sums.decoded, body, rules, parameters)


@given(seed=st.integers(0, 2**32), codec=st.sampled_from(CODECS), parameters=st.sampled_from([1, 4096, 4097, 70_001]))
def test_payloads_that_stay_just_within_decode_as_the_slow_path_does(seed: int, codec: str, parameters: int) -> None:
    """Around the bound of 2C, for many blocks: the same elements, or the same fault, as one int64 at a time."""
    rules, rng = _rules(codec), np.random.default_rng(seed)
    delta = rng.normal(0, 1.0, parameters).clip(-4, 4).astype(np.float32)
    delta[rng.integers(parameters)] = rng.choice(
        [4.0, -4.0, 4.01, 0.0, *([np.inf, np.nan] * codec.startswith("float"))]
    )
    body = encode_update(delta, rules)
    found = _outcome(_decode, body, rules, parameters)
    assert found == _outcome(slow_sums.decoded, body, rules, parameters)


def _outcome(decode: Callable[..., np.ndarray], body: bytes, rules: Policy, parameters: int) -> list[int] | str:
    try:
        grid = decode(body, rules, parameters=parameters)
    except BodyError as error:
        return error.fault
    assert grid.dtype == np.int64
    assert grid.shape == (parameters,)
    assert np.abs(grid).max() <= 2 * rules.clipping.steps
    return grid.tolist()


# --- the frame ------------------------------------------------------------------------------------------------------

BOMB = bytes(50_000_000)


def _peak_bytes(data: bytes, size: int) -> int:
    tracemalloc.start()
    try:
        with pytest.raises(BodyError):
            decompress(data, size)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _lying(data: bytes, size: int) -> bytes:
    """The frame `data` with another declared size: the frame header's content size, of four bytes here."""
    parameters = zstandard.get_frame_parameters(data)
    declared = parameters.content_size.to_bytes(4, "little")
    assert data.count(declared, 0, 16) == 1
    return data.replace(declared, size.to_bytes(4, "little"), 1)


def test_a_bomb_that_declares_its_size_is_not_opened() -> None:
    """A frame that declares another size than the codec's is refused before anything is allocated for it."""
    bomb = compress(BOMB)
    assert len(bomb) < 5_000
    assert _peak_bytes(bomb, 1_000) < 1_000_000


def test_a_bomb_that_lies_gets_no_more_than_it_declares() -> None:
    """A frame that declares the codec's size and holds more is cut off there."""
    size = 70_000
    assert _peak_bytes(_lying(compress(BOMB), size), size) < 2_000_000


def test_a_frame_that_declares_more_than_it_holds_is_refused() -> None:
    """Too little is as wrong as too much."""
    with pytest.raises(BodyError):
        decompress(_lying(compress(bytes(100_000)), 100_001), 100_001)


def test_a_frame_without_a_size_is_refused() -> None:
    """A frame has to declare its size."""
    stream = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(100))
    with pytest.raises(BodyError):
        decompress(stream, 100)


def test_a_window_above_its_bound_is_refused() -> None:
    """A window is memory that a stranger asks for: at most 8 MiB."""
    wide = zstandard.ZstdCompressionParameters(window_log=27, write_content_size=True)
    compressor = zstandard.ZstdCompressor(compression_params=wide)
    data = compressor.compress(np.random.default_rng(0).bytes(9 << 20))
    assert zstandard.get_frame_parameters(data).window_size > 8 << 20
    with pytest.raises(BodyError, match="window"):
        decompress(data, 9 << 20)


def test_a_second_frame_is_refused() -> None:
    """A body is exactly one frame: a second one, or anything behind the first, would be bytes that nobody reads."""
    for tail in (compress(bytes(8)), compress(b""), b"junk", b"\x00"):
        with pytest.raises(BodyError):
            decompress(compress(bytes(100)) + tail, 100)
    with pytest.raises(BodyError):
        decompress(compress(bytes(50)) + compress(bytes(50)), 100)


@pytest.mark.parametrize("cut", [0, 1, 4, 5, 9, 12, -1])
def test_a_truncated_frame_is_refused(cut: int) -> None:
    """Half a frame is no frame."""
    with pytest.raises(BodyError):
        decompress(compress(np.random.default_rng(1).bytes(4_000))[:cut], 4_000)


def test_the_longest_body_is_bounded_and_enough() -> None:
    """What cannot be compressed still fits `body_bytes_max`, beyond which a body is refused unread."""
    for codec in CODECS:
        rules = _rules(codec)
        size = payload_bytes(rules.compression, D)
        assert len(compress(np.random.default_rng(2).bytes(size))) <= body_bytes_max(rules.compression, D)


# --- what is inside -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", CODECS)
def test_another_shape_is_refused(codec: str) -> None:
    """A body for one parameter more or less is no body of this model."""
    body = encode_update(np.ones(D, np.float32), _rules(codec, topk_fraction=1.0))
    for parameters in (D - 1, D + 1):
        assert _fault(body, _rules(codec, topk_fraction=1.0), parameters) in {"body_shape", "body_malformed"}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(value: float) -> None:
    """One NaN or infinity anywhere refuses the body."""
    delta = np.zeros(D, np.float32)
    delta[-1] = value
    assert _fault(pack(delta), _rules("float32")) == "not_finite"
    assert _fault(pack(delta.astype(np.float16)), _rules("float16")) == "not_finite"


def test_an_element_beyond_twice_the_clip_is_out_of_grid() -> None:
    """Beyond 2C nothing passes, in any codec and with either sign."""
    for sign in (1, -1):
        beyond = np.full(4, sign * np.nextafter(np.float32(4), np.float32(5)), np.float32)
        assert _fault(pack(beyond), _rules("float32"), 4) == "out_of_grid"
        values = np.full(4, sign * 127, "<i1").tobytes()
        assert _fault(compress((1_033).to_bytes(4, "little") + values), _rules("int8"), 4) == "out_of_grid"
        one = bytes(4) + np.array([sign * 127], "<i1").tobytes()
        assert _fault(compress((1_033).to_bytes(4, "little") + one), _rules("topk"), 4) == "out_of_grid"
    assert _fault(compress(b"\xff" * 4 + b"\x80" * 4), _rules("int8"), 4) == "out_of_grid"


def test_half_a_byte_is_nobodys() -> None:
    """An odd number of elements leaves four bits over, which must be zero: one body has one encoding of them."""
    rules = _rules("int4")
    assert _decode(compress((3).to_bytes(4, "little") + b"\x2f\x07"), rules, parameters=3).tolist() == [-3, 21, 6]
    assert _fault(compress((3).to_bytes(4, "little") + b"\x2f\x17"), rules, 3) == "body_malformed"


def test_a_half_is_in_units_of_the_clip() -> None:
    """float16 has the same steps whatever the norm, far above and far below what a half can hold itself."""
    for norm in (1e-9, 1.0, 1e9):
        rules = policy(compression={"codec": "float16"}, clipping={"norm": norm, "steps": 1 << 16})
        delta = (np.array([2.0, -1.0, 0.5, 2.0**-14], np.float32) * np.float32(norm)).astype(np.float32)
        decoded = _decode(encode_update(delta, rules), rules, parameters=4)
        assert decoded.tolist() == [2 << 16, -1 << 16, 1 << 15, 4]


@pytest.mark.parametrize("gaps", [[0, 0, 1], [5, 5, 5], [0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF], [10, 1, 1]])
def test_indices_ascend_within_the_parameters(gaps: list[int]) -> None:
    """A top-k body cannot name an element twice, nor one that the model has not."""
    payload = (1).to_bytes(4, "little") + np.array(gaps, "<u4").tobytes() + b"\x01" * 3
    assert _fault(compress(payload), _rules("topk", topk_fraction=0.3), 10) == "body_malformed"


def test_arrays_come_back_bit_for_bit() -> None:
    """A model and a sum are stored exactly."""
    model = np.random.default_rng(3).normal(size=300).astype(np.float32)
    total = np.array([0, -1, (1 << 62), -(1 << 62)], np.int64)
    assert unpack(pack(model), "float32", count=300).tobytes() == model.tobytes()
    assert unpack(pack(total), "int64", count=4).tolist() == total.tolist()
    for codec, count in (("float32", 299), ("int64", 300)):
        with pytest.raises(BodyError):
            unpack(pack(model), codec, count=count)
