"""The rule between releases (docs/upgrading.md): readers first, writers one release later; old history stays readable.

A "newer release" is here a journal with facts that this one does not know, and "this release, later" is this one with
an upcaster more.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import msgspec
import pytest

from schemas import canonical as envelope
from schemas.canonical import decode, encode
from schemas.events import RoundOpened, TaskHalted
from schemas.journal import Chain, ChainBroken, sign_record
from schemas.topics import ROUNDS
from tests.root import ROOT
from tests.worlds.builders import batch, decision, role_key, trust, writer_claimed
from tests.worlds.ops_journal import journalled

GOLDEN: dict[str, str] = json.loads((ROOT / "tests" / "trials" / "golden" / "facts.json").read_text())
OPENED = RoundOpened(task="digits", round=7)
CLAIM = journalled(writer_claimed(partition=3), ROUNDS.name, 3)
SIGNER = role_key("aggregator").signer
FIRST, SECOND = 40, 42  # offsets: of the claim, and of the batch after it


def journal(*events: dict[str, Any]) -> tuple[Chain, bytes]:
    """A chain that has read the claim, and the record of one batch with these events as they were written."""
    chain = Chain(ROUNDS.name, 3, trust())
    chain.follow(FIRST, CLAIM)
    plain = msgspec.to_builtins(batch(chain.at, decision(offset=5, time_ms=6)), builtin_types=(bytes,))
    plain["decisions"][0]["events"] = list(events)
    return chain, signed(encode(plain))


def signed(record: bytes) -> bytes:
    """What the writer of the journal puts there."""
    return sign_record(record, topic=ROUNDS.name, partition=3, key=SIGNER.key)


def written(event: Any, **changes: Any) -> dict[str, Any]:
    """An event as a map, with some of it changed."""
    return {**msgspec.to_builtins(event, builtin_types=(bytes,)), **changes}


def test_what_this_release_writes_it_reads() -> None:
    """The other tests change one thing in such a batch."""
    chain, data = journal(written(OPENED))
    batch = chain.follow(SECOND, data)
    assert batch is not None
    assert batch.decisions[0].events == (OPENED,)


@pytest.mark.parametrize("tag", ["RoundBlessed/1", "RoundOpened/2"], ids=["kind", "version"])
def test_an_old_reader_stops_at_what_it_does_not_know(tag: str) -> None:
    """A kind or a version of a newer release is never skipped or guessed: the error names it, and where it stands."""
    chain, data = journal(written(OPENED), written(OPENED, type=tag))
    before = chain.at
    with pytest.raises(ChainBroken, match=f"offset {SECOND}: {tag}: this release is too old"):
        chain.follow(SECOND, data)
    assert chain.at == before


def test_a_record_of_a_newer_release_is_named_too() -> None:
    """The same for the records themselves."""
    chain, _ = journal()
    with pytest.raises(ChainBroken, match="offset 49: Batch/2: this release is too old"):
        chain.follow(49, signed(encode({"type": "Batch/2", "seq": 0})))


def test_a_fact_inside_another_is_named() -> None:
    """What another actor's newer release told stands inside Noticed, and is found there."""
    chain, data = journal({"type": "Noticed/1", "fact": {"type": "TaskArchived/1", "task": "digits"}})
    with pytest.raises(ChainBroken, match="TaskArchived/1: this release is too old"):
        chain.follow(SECOND, data)


@pytest.mark.parametrize(
    "data",
    [b"", b"junk", b"\xc1", encode(["no", "map"]), encode({"type": "no tag"}), encode(OPENED)],
    ids=["empty", "junk", "no msgpack", "list", "no tag", "known, but no record"],
)
def test_foreign_bytes_are_not_blamed_on_age(data: bytes) -> None:
    """Upgrading helps only where a newer release wrote; anything else is called what it is."""
    chain, _ = journal()
    with pytest.raises(ChainBroken, match="offset 49: not a journal record"):
        chain.follow(49, signed(data))


def test_a_new_word_in_a_closed_list_stops_an_old_reader_as_well() -> None:
    """A reason that this release does not know is not read as another one: new words follow the rule of new kinds."""
    chain, data = journal(written(TaskHalted(task="digits", reason="idle", version=3), reason="sunset"))
    with pytest.raises(ChainBroken, match="'sunset'"):
        chain.follow(SECOND, data)


def test_an_upcaster_makes_old_history_readable(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a caster from /0 to /1 a batch of the older release is read as today's facts, and the chain goes on over it.

    The head is over the bytes as they were written: lifting must not change what the next batch refers to.
    """
    chain, data = journal({"type": "RoundOpened/0", "name": "digits", "number": 7})

    def first(zeroth: dict[str, Any]) -> dict[str, Any]:
        return {"type": "RoundOpened/1", "task": zeroth["name"], "round": zeroth["number"]}

    monkeypatch.setitem(envelope.UPCASTERS, "RoundOpened/0", first)
    batch = chain.follow(SECOND, data)
    assert batch is not None
    assert batch.decisions[0].events == (OPENED,)
    assert chain.at.head == hashlib.sha256(data).digest()
    after = msgspec.structs.replace(batch, seq=1, prev=chain.at.head)
    assert chain.follow(SECOND + 2, signed(encode(after))) == after


class NextRoundOpened(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="RoundOpened/2"):
    """RoundOpened as a later release may have it, with one field more."""

    task: str
    round: int
    cohort: str


def test_golden_bytes_of_the_first_version_decode_to_the_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """What today's release writes will be read by one that has replaced the fact."""
    second = {"type": "RoundOpened/2", "cohort": ""}
    monkeypatch.setitem(envelope.UPCASTERS, "RoundOpened/1", lambda first: {**first, **second})
    today = decode(bytes.fromhex(GOLDEN["RoundOpened/1"]), RoundOpened)
    later = decode(bytes.fromhex(GOLDEN["RoundOpened/1"]), NextRoundOpened)
    assert later == NextRoundOpened(task=today.task, round=today.round, cohort="")
