"""Golden bytes: what was ever written stays readable, and is written the same for ever (law 11)."""

from __future__ import annotations

import json
from typing import Any, get_args

import msgspec
import pytest

from schemas import canonical as envelope
from schemas.canonical import MalformedError, decode, encode
from schemas.events import AnyEvent, Event, Partial
from schemas.journal import Batch, WriterClaimed
from tests.root import ROOT

GOLDEN: dict[str, str] = json.loads((ROOT / "tests" / "trials" / "golden" / "facts.json").read_text())


def _tag(kind: type[Any]) -> str:
    return str(kind.__struct_config__.tag)


def _all_facts() -> dict[str, type[Any]]:
    """Every fact that the vocabulary defines, found by its base class, and the records of a journal."""
    return {_tag(kind): kind for kind in (*Event.__subclasses__(), Batch, WriterClaimed)}


FACTS = {tag: kind for tag, kind in _all_facts().items() if kind.__module__.startswith("schemas.")}


def test_every_fact_has_golden_bytes() -> None:
    """A new fact, or a new version of one, is not in the vocabulary before its bytes are in the golden file."""
    assert sorted(FACTS.keys() - GOLDEN.keys()) == []


def test_every_golden_entry_is_of_a_known_fact() -> None:
    """Bytes that were ever written are never dropped from what can be read: a fact cannot be renamed in place."""
    assert sorted(GOLDEN.keys() - FACTS.keys() - envelope.UPCASTERS.keys()) == []


@pytest.mark.parametrize("tag", GOLDEN)
def test_golden_bytes_decode_and_encode_the_same(tag: str) -> None:
    """The bytes of a fact never change: its name, the names of its fields, their order and their form."""
    data = bytes.fromhex(GOLDEN[tag])
    value = decode(data, FACTS[tag])
    assert _tag(type(value)) == tag
    assert encode(value).hex() == GOLDEN[tag]


@pytest.mark.parametrize("tag", GOLDEN)
def test_facts_cost_the_cycle_collector_nothing(tag: str) -> None:
    """A state keeps facts by the hundred thousand; tracked, they would take half the time of a replay."""
    assert tag == "WriterClaimed/1" or not FACTS[tag].__struct_config__.gc


@pytest.mark.parametrize("tag", GOLDEN)
def test_golden_bytes_name_every_field(tag: str) -> None:
    """A golden entry shows each field of its fact with a value of its own, so that none can be added unseen."""
    shown = msgspec.to_builtins(decode(bytes.fromhex(GOLDEN[tag]), FACTS[tag]), builtin_types=(bytes,))
    assert [*shown] == ["type", *FACTS[tag].__struct_encode_fields__]


def test_facts_of_the_union_are_all_facts() -> None:
    """What consoles decode with leaves out no fact but those that never stand alone in a topic."""

    def members(union: Any) -> set[str]:
        return {tag for part in get_args(union) for tag in (members(part) if get_args(part) else {_tag(part)})}

    assert set(FACTS) - members(AnyEvent | Partial) == {"Batch/1", "WriterClaimed/1"}


# --- upcasters ------------------------------------------------------------------------------------------------------


class Measured(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="Measured/3"):
    """A test's own fact, in its third version."""

    length_mm: int
    unit: str
    place: str


class Envelope(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A value with facts inside."""

    facts: tuple[Measured, ...]


def _second(first: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Measured/2", "length_mm": first["length_cm"] * 10, "unit": "mm"}


def _third(second: dict[str, Any]) -> dict[str, Any]:
    return {**second, "type": "Measured/3", "place": "unknown"}


@pytest.fixture
def casters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measured/1 had `length_cm`; /2 renamed it; /3 added a place."""
    monkeypatch.setattr(envelope, "UPCASTERS", {"Measured/1": _second, "Measured/2": _third})


FIRST = encode({"type": "Measured/1", "length_cm": 3})
SECOND = encode({"type": "Measured/2", "length_mm": 30, "unit": "mm"})
THIRD = Measured(length_mm=30, unit="mm", place="unknown")


@pytest.mark.usefixtures("casters")
@pytest.mark.parametrize("data", [FIRST, SECOND, encode(THIRD)], ids=["/1", "/2", "/3"])
def test_old_bytes_decode_to_the_newest_version(data: bytes) -> None:
    """Upcasters are chained: bytes of every version ever written give the newest value, and always the same."""
    assert decode(data, Measured) == decode(data, Measured) == THIRD


@pytest.mark.usefixtures("casters")
def test_facts_inside_others_are_lifted() -> None:
    """A batch holds facts of several versions; each is lifted where it stands."""
    written = {"facts": [{"type": "Measured/1", "length_cm": 3}, msgspec.to_builtins(THIRD)]}
    assert decode(encode(written), Envelope).facts == (THIRD, THIRD)


@pytest.mark.usefixtures("casters")
def test_an_upcaster_does_not_touch_what_was_written() -> None:
    """Upcasters are pure: lifting leaves the value that it lifts as it was."""
    written = {"type": "Measured/1", "length_cm": 3}
    before = dict(written)
    assert envelope._upcast(written)["type"] == "Measured/3"
    assert written == before


@pytest.mark.usefixtures("casters")
def test_old_bytes_are_as_strict_as_new_ones() -> None:
    """What is not canonical is refused in old versions too: the bytes are compared with what was written."""
    longer_int = FIRST[:-1] + b"\xcc\x03"
    for data in (longer_int, FIRST + b"\x00", FIRST[:-1]):
        with pytest.raises(MalformedError):
            decode(data, Measured)


def test_without_an_upcaster_an_old_version_is_refused() -> None:
    """An unknown version is never guessed at."""
    with pytest.raises(MalformedError):
        decode(FIRST, Measured)
