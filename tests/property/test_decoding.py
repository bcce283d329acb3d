"""Strict, canonical decoding: one value has one encoding, and nothing else is read."""

from __future__ import annotations

import string
from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import inspect as shapes

from schemas.canonical import JOURNAL_RECORD_BYTES_MAX, MalformedError, decode, encode
from schemas.events import AnyEvent, Event, Tick, UpdateSubmitted
from schemas.journal import Batch, JournalRecord, WriterClaimed
from schemas.signing import Signed

KINDS = [
    *(kind for kind in Event.__subclasses__() if kind.__module__.startswith("schemas.")),
    Batch,
    WriterClaimed,
    Signed,
]
_NAMES = {"task": "digits-1", "parent": "digits-0", "successor": "digits-2", "lease": "0" * 32, "update": "f" * 32}
_NAMES |= {"population": "digits", "device_class": "phones", "subject": "7" * 32, "token": "5" * 32}
_NAMES |= {"updates": "f" * 32, "evaluator": "5" * 16, "source": "digits-2"}


def values(shape: shapes.Type, name: str = "") -> st.SearchStrategy[Any]:  # noqa: C901 - one case a type
    """Plain values of a type, within its bounds."""
    match shape:
        case shapes.IntType():
            top = shape.le if shape.le is not None else shape.lt - 1 if shape.lt is not None else 2**64 - 1
            return st.integers(shape.ge or 0, top)
        case shapes.FloatType():
            return st.floats(allow_nan=False, allow_infinity=False)
        case shapes.BoolType():
            return st.booleans()
        case shapes.StrType(pattern=None):
            return st.text(string.printable + "äß€", max_size=min(8, shape.max_length or 8))
        case shapes.StrType():
            return st.just(_NAMES.get(name, "phone.7"))
        case shapes.BytesType():
            return st.binary(min_size=shape.min_length or 0, max_size=shape.max_length or 40)
        case shapes.LiteralType():
            return st.sampled_from(shape.values)
        case shapes.NoneType():
            return st.none()
        case shapes.UnionType():
            return st.sampled_from(shape.types).flatmap(lambda part: values(part, name))
        case shapes.VarTupleType():
            return st.lists(values(shape.item_type, name), max_size=2)
        case shapes.TupleType():
            return st.tuples(*(values(item, name) for item in shape.item_types)).map(list)
        case shapes.DictType():
            return st.dictionaries(values(shape.key_type, name), values(shape.value_type, name), max_size=2)
        case shapes.StructType():
            return _struct(shape)
    raise TypeError(shape)


def _struct(shape: shapes.StructType) -> st.SearchStrategy[Any]:
    fields = {field.encode_name: values(field.type, field.name) for field in shape.fields}
    if shape.array_like:
        return st.tuples(*fields.values()).map(list)
    tag = {} if shape.tag is None else {str(shape.tag_field): st.just(shape.tag)}
    return st.fixed_dictionaries({**tag, **fields})


def _strategy(kind: type[Any]) -> st.SearchStrategy[Any]:
    # Deferred, because the shape of a batch is large and not every test asks for it.
    return st.deferred(lambda: values(shapes.type_info(kind))).map(
        lambda plain: msgspec.convert(plain, kind, builtin_types=(bytes,))
    )


STRATEGIES = {kind: _strategy(kind) for kind in KINDS}
ANY_VALUE = st.sampled_from(KINDS).flatmap(STRATEGIES.__getitem__)
ANY_FACT = st.sampled_from([kind for kind in KINDS if kind is not Signed]).flatmap(STRATEGIES.__getitem__)


@given(value=ANY_VALUE)
def test_every_value_round_trips(value: Any) -> None:
    """Whatever a value holds, its bytes give the same value back, and that value the same bytes."""
    data = encode(value)
    assert decode(data, type(value)) == value
    assert encode(decode(data, type(value))) == data


@given(value=ANY_VALUE)
def test_another_library_writes_the_same_bytes(value: Any) -> None:
    """Canonical form is msgpack's shortest form, not one library's habit: the reference implementation agrees."""
    assert encode(value) == msgpack.packb(msgspec.to_builtins(value, builtin_types=(bytes,)), use_bin_type=True)


def _refused_or_canonical(data: bytes, kind: Any) -> None:
    """`decode` raises MalformedError and nothing else, or gives the value whose one encoding this is."""
    try:
        value = decode(data, kind)
    except MalformedError:
        return
    assert encode(value) == data


@given(data=st.binary(max_size=200), kind=st.sampled_from([*KINDS, AnyEvent, JournalRecord]))
def test_random_bytes_raise_malformed_and_nothing_else(data: bytes, kind: Any) -> None:
    """No bytes at all can raise anything but MalformedError."""
    _refused_or_canonical(data, kind)


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=4)
    | st.binary(max_size=4)
    | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=4))
    | st.builds(msgpack.Timestamp, st.integers(0, 2**40), st.integers(0, 999_999_999)),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3) | st.integers(-(2**63), 2**64 - 1), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(value=ANY_VALUE, wrong=PLAIN, data=st.data())
def test_a_field_of_a_wrong_type_is_refused(value: Any, wrong: Any, data: st.DataObject) -> None:
    """A field is what its type says: floats for integers, ext types, NaN and infinity are refused or canonical."""
    plain = msgspec.to_builtins(value, builtin_types=(bytes,))
    places: list[Any] = [*plain] if isinstance(plain, dict) else [*range(len(plain))]
    plain[data.draw(st.sampled_from(places))] = wrong
    _refused_or_canonical(msgpack.packb(plain, use_bin_type=True), type(value))


@given(value=ANY_VALUE, data=st.data())
def test_a_truncation_is_refused(value: Any, data: st.DataObject) -> None:
    """The first n bytes of a value are no value."""
    whole = encode(value)
    with pytest.raises(MalformedError):
        decode(whole[: data.draw(st.integers(0, len(whole) - 1))], type(value))


@given(value=ANY_VALUE, tail=st.binary(min_size=1, max_size=8))
def test_trailing_bytes_are_refused(value: Any, tail: bytes) -> None:
    """Nothing follows a value."""
    with pytest.raises(MalformedError):
        decode(encode(value) + tail, type(value))


@given(value=ANY_VALUE, data=st.data())
def test_a_flipped_byte_is_refused_or_another_value(value: Any, data: st.DataObject) -> None:
    """Two byte strings are never read as the same value."""
    whole = bytearray(encode(value))
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        other = decode(bytes(whole), type(value))
    except MalformedError:
        return
    assert encode(other) == bytes(whole)
    assert encode(other) != encode(value)


@given(value=ANY_FACT, name=st.text(max_size=5))
def test_an_unknown_field_is_refused(value: Any, name: str) -> None:
    """A field that the vocabulary does not know is refused, wherever it stands."""
    plain = msgspec.to_builtins(value, builtin_types=(bytes,))
    if name in plain:
        return
    with pytest.raises(MalformedError):
        decode(msgpack.packb({**plain, name: 1}, use_bin_type=True), type(value))


def _key_twice(value: Any) -> bytes:
    """The map of `value` with its last pair written a second time."""
    packer = msgpack.Packer(use_bin_type=True)
    pairs = [*msgspec.to_builtins(value, builtin_types=(bytes,)).items()]
    body = b"".join(packer.pack(part) for pair in [*pairs, pairs[-1]] for part in pair)
    return packer.pack_map_header(len(pairs) + 1) + body


@given(value=ANY_FACT)
def test_a_key_twice_is_refused(value: Any) -> None:
    """msgpack lets the last of two equal keys win; here the bytes are refused."""
    with pytest.raises(MalformedError):
        decode(_key_twice(value), type(value))


LONGER = {
    "uint8 for a fixint": (b"\x07", b"\xcc\x07"),
    "uint16 for a fixint": (b"\x07", b"\xcd\x00\x07"),
    "uint64 for a fixint": (b"\x07", b"\xcf" + bytes(7) + b"\x07"),
    "int8 for a fixint": (b"\x07", b"\xd0\x07"),
    "a float for an integer": (b"\x07", b"\xcb\x40\x1c" + bytes(6)),
    "str8 for a fixstr": (b"\xa6bodies", b"\xd9\x06bodies"),
    "bin for a str": (b"\xa6bodies", b"\xc4\x06bodies"),
    "bin16 for bin8": (b"\xc4\x04seal", b"\xc5\x00\x04seal"),
    "str for a bin": (b"\xc4\x04seal", b"\xa4seal"),
    "array16 for a fixarray": (b"\x91\x05", b"\xdc\x00\x01\x05"),
    "nil for a number": (b"\x07", b"\xc0"),
    "a timestamp for a number": (b"\x07", b"\xd6\xff" + bytes(4)),
}


@pytest.mark.parametrize("form", LONGER)
def test_another_form_of_the_same_value_is_refused(form: str) -> None:
    """Each value has one form: the shortest integer, string and array, and no type for another."""
    plain = {
        "type": "UpdateSubmitted/1",
        "sealed": b"seal",
        "samples": 7,
        "metrics": [],
        "body": {"topic": "bodies", "partition": 1, "offsets": [5], "sha256": bytes(32), "size": 2, "codec": "int8"},
        "inline": None,
        "fidelity": None,
    }
    data = msgpack.packb(plain, use_bin_type=True)
    assert encode(decode(data, UpdateSubmitted)) == data
    written, other = LONGER[form]
    assert data.count(written) == 1
    with pytest.raises(MalformedError):
        decode(data.replace(written, other), UpdateSubmitted)


def test_deep_nesting_and_long_records_are_refused() -> None:
    """Neither depth nor length of what a stranger sends costs more than an exception."""
    for data in (
        b"\x91" * 100_000,
        b"\x81\xa1a" * 50_000,
        bytes(JOURNAL_RECORD_BYTES_MAX + 1),
        b"\xdd\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
    ):
        with pytest.raises(MalformedError):
            decode(data, Tick)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_is_never_written(number: float) -> None:
    """NaN and infinity are refused on the way out too, at any depth."""
    with pytest.raises(MalformedError):
        encode({"metrics": [{"loss": number}]})


@pytest.mark.parametrize("lookalike", ["cb7ff0000000000000", "cbfff8000000000000"])
def test_bytes_that_look_like_nan_are_only_bytes(lookalike: str) -> None:
    """A digest or a text may hold the bytes of a number that is not finite."""
    value = {"sha256": bytes.fromhex(lookalike), "loss": 0.5}
    assert msgpack.unpackb(encode(value)) == value
