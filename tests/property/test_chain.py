"""The chain (law 4): what its writers signed is not changed, dropped or moved unseen, and strangers change nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.keys import OperatorKey
from schemas.canonical import encode
from schemas.certificates import parse_certified
from schemas.events import InputsDropped
from schemas.journal import Batch, Chain, ChainBroken, JournalRecord, open_record
from schemas.topics import LEDGER, SELECTIONS
from tests.worlds.builders import batch, decision, role_key, trust, writer_claimed
from tests.worlds.ops_journal import journalled

TOPIC, PLACE = SELECTIONS.name, 3
STRANGER = OperatorKey(b"s" * 32)


def reader(**changes: Any) -> Chain:
    """A reader that holds the operator's public key."""
    return Chain(TOPIC, PLACE, **{"trust": trust("selector"), **changes})


@dataclass
class Writer:
    """Writes a journal as an actor does, with a claim for every life; keeps what was written, at even offsets."""

    records: list[bytes] = field(default_factory=list)
    chain: Chain = field(default_factory=reader)
    zombies: list[bytes] = field(default_factory=list)

    def claim(self) -> None:
        """A new life; the batch that the one before would have written next becomes a zombie's."""
        self.zombies.append(self._next())
        end = 2 * len(self.records)
        self._put(journalled(writer_claimed("selector", PLACE, after=end, nonce=bytes([end]) * 32), TOPIC, PLACE))

    def batch(self) -> None:
        """The next batch."""
        self._put(self._next())

    def zombie(self) -> None:
        """The batch of a writer that has been superseded, appended all the same."""
        self.records.append(self.zombies[-1])

    def _put(self, data: bytes) -> None:
        self.chain.follow(2 * len(self.records), data)
        self.records.append(data)

    def _next(self) -> bytes:
        at, offset = self.chain.at, len(self.records)
        dropped = InputsDropped(topic="updates", count=1, first_offset=offset, last_offset=offset)
        return journalled(batch(at, decision(dropped, offset=offset, time_ms=offset)), TOPIC, PLACE)


def written(steps: list[str]) -> Writer:
    """A journal that begins with a claim, takes these steps, and ends with a batch that vouches for the rest."""
    writer = Writer()
    for step in ["claim", *steps, "batch"]:
        getattr(writer, step)()
    return writer


def placed(records: list[bytes]) -> Iterator[tuple[int, bytes]]:
    """Records at even offsets, as they were written."""
    return ((2 * index, data) for index, data in enumerate(records))


def followed(records: list[tuple[int, bytes]]) -> Chain:
    """The chain after all records."""
    chain = reader()
    for offset, data in records:
        chain.follow(offset, data)
    return chain


def flipped(data: bytes, draw: st.DataObject) -> bytes:
    """The same with one bit changed."""
    changed = bytearray(data)
    changed[draw.draw(st.integers(0, len(changed) - 1))] ^= 1 << draw.draw(st.integers(0, 7))
    return bytes(changed)


def forged(journal: Writer, draw: st.DataObject) -> bytes:
    """What somebody else may put into a journal: junk, or a record that fits and that the wrong hand has signed."""
    at = journal.chain.at
    claim = writer_claimed("selector", PLACE, after=9_999)
    kinds: list[JournalRecord] = [claim, batch(at)]
    record = draw.draw(st.sampled_from(kinds))
    hands: list[dict[str, Any]] = [{"key": STRANGER}, {"topic": LEDGER.name}, {"partition": PLACE + 1}]
    hands += [{"deployment": b"y" * 16}, {"role": "aggregator"}]
    hand = draw.draw(st.sampled_from(hands))
    signed = journalled(record, **{"topic": TOPIC, "partition": PLACE, **hand})
    # A certificate is no secret: whoever reads the journal has it.
    borrowed = msgspec.structs.replace(parse_certified(signed), certificate=role_key("selector").signer.certificate)
    return draw.draw(st.one_of(st.binary(max_size=60), *map(st.just, (encode(record), signed, encode(borrowed)))))


JOURNALS = st.lists(st.sampled_from(["claim", "batch", "batch", "batch"]), min_size=1, max_size=8).map(written)


@given(journal=JOURNALS)
def test_a_journal_as_written_is_followed(journal: Writer) -> None:
    """A reader ends with the writer's own seq, claim, head and key."""
    assert followed([*placed(journal.records)]).at == journal.chain.at


@given(journal=JOURNALS, data=st.data())
def test_a_flipped_bit_is_found(journal: Writer, data: st.DataObject) -> None:
    """A bit changed anywhere before the last record stops the reader, at the record after it at the latest."""
    at = data.draw(st.integers(0, len(journal.records) - 2))
    records = [*journal.records[:at], flipped(journal.records[at], data), *journal.records[at + 1 :]]
    with pytest.raises(ChainBroken):
        followed([*placed(records)])


@given(journal=JOURNALS, data=st.data())
def test_a_changed_last_record_is_nobodys(journal: Writer, data: st.DataObject) -> None:
    """Nothing comes after the last record; changed it is a stranger's, and the chain ends before it."""
    before = followed([*placed(journal.records[:-1])])
    chain = followed([*placed([*journal.records[:-1], flipped(journal.records[-1], data)])])
    assert (chain.at, chain.strangers) == (before.at, 1)


@given(journal=JOURNALS, data=st.data())
def test_a_dropped_record_is_found(journal: Writer, data: st.DataObject) -> None:
    """A record left out, the offsets closed up or not, stops the reader."""
    at = data.draw(st.integers(0, len(journal.records) - 2))
    with pytest.raises(ChainBroken):
        followed([*placed([*journal.records[:at], *journal.records[at + 1 :]])])
    with pytest.raises(ChainBroken):
        followed([one for one in placed(journal.records) if one[0] != 2 * at])


@given(journal=JOURNALS, data=st.data())
def test_a_moved_record_is_found(journal: Writer, data: st.DataObject) -> None:
    """Two records that change places stop the reader."""
    first = data.draw(st.integers(0, len(journal.records) - 2))
    second = data.draw(st.integers(first + 1, len(journal.records) - 1))
    records = [*journal.records]
    records[first], records[second] = records[second], records[first]
    with pytest.raises(ChainBroken):
        followed([*placed(records)])


@given(journal=JOURNALS, data=st.data())
def test_a_copied_record_changes_nothing(journal: Writer, data: st.DataObject) -> None:
    """Whoever writes a record again, a claim too, is counted, and every reader stands where it stood."""
    at = data.draw(st.integers(0, len(journal.records) - 1))
    to = data.draw(st.integers(at, len(journal.records) - 1))
    records = [*placed(journal.records)]
    chain = followed([*records[: to + 1], (2 * to + 1, journal.records[at]), *records[to + 1 :]])
    assert (chain.at, chain.strangers + chain.zombies) == (journal.chain.at, 1)


@given(journal=JOURNALS, data=st.data())
def test_a_stranger_changes_nothing(journal: Writer, data: st.DataObject) -> None:
    """What another key, role, deployment or place has signed, or nobody, is passed over and counted."""
    to = data.draw(st.integers(0, len(journal.records) - 1))
    records = [*placed(journal.records)]
    chain = followed([*records[: to + 1], (2 * to + 1, forged(journal, data)), *records[to + 1 :]])
    assert (chain.at, chain.strangers) == (journal.chain.at, 1)


@given(steps=st.lists(st.sampled_from(["claim", "batch", "zombie"]), min_size=1, max_size=10))
def test_zombies_are_skipped_and_counted(steps: list[str]) -> None:
    """A batch under a superseded claim is passed over wherever it lands, by every reader alike, and counted."""
    journal = written(["claim", *steps])
    chain = reader()
    taken = [batch for offset, data in placed(journal.records) if (batch := chain.follow(offset, data))]
    assert chain.zombies == steps.count("zombie")
    assert [batch.seq for batch in taken] == [*range(steps.count("batch") + 1)]


# --- one by one -----------------------------------------------------------------------------------------------------


def test_the_message_names_the_offset_and_what_was_expected() -> None:
    """Whoever reads the error learns where the chain breaks, and how."""
    journal = written(["batch", "batch"])
    with pytest.raises(ChainBroken, match=r"offset 4: seq is 1, the chain expects 0"):
        followed([one for one in placed(journal.records) if one[0] != 2])


def test_prev_covers_the_batch_before_and_each_claim_since() -> None:
    """`prev` is the digest over the batch before and the claims after it, in log order, so no claim can go missing."""
    journal = written(["batch", "claim", "claim"])
    first, *claims, last = journal.records[1:]
    head = hashlib.sha256(first).digest()
    for claim in claims:
        head = hashlib.sha256(hashlib.sha256(head).digest() + hashlib.sha256(claim).digest()).digest()
    found = open_record(last)
    assert isinstance(found, Batch)
    assert found.prev == head


def test_a_refused_record_leaves_the_chain_where_it_stood() -> None:
    """After ChainBroken the reader can try again with the right record."""
    journal = written(["batch"])
    chain = followed([*placed(journal.records[:2])])
    before = chain.at
    with pytest.raises(ChainBroken):
        chain.follow(4, journalled(batch(before, seq=9), TOPIC, PLACE))
    assert chain.at == before
    assert chain.follow(4, journal.records[2]) is not None


def test_nothing_stands_before_the_first_claim() -> None:
    """Without a claim there is no key to judge by: a journal of an older form must not look like an empty one."""
    with pytest.raises(ChainBroken, match="offset 0: stands before the first claim"):
        reader().follow(0, b"junk")


def test_a_claim_counts_while_its_certificate_holds() -> None:
    """A key that has run out claims no journal; what was written under an earlier claim stays."""
    claim = journalled(writer_claimed("selector", PLACE), TOPIC, PLACE, until_ms=5_000)
    chain = reader()
    with pytest.raises(ChainBroken):
        chain.follow(0, claim, time_ms=5_001)
    chain.follow(0, claim, time_ms=5_000)
    assert chain.follow(2, journalled(batch(chain.at), TOPIC, PLACE), time_ms=9_000) is not None


def test_a_batch_comes_without_a_certificate() -> None:
    """It is no part of what is signed: with one, a copy of a batch would have another digest."""
    chain = followed([*placed(written([]).records)])
    message = parse_certified(journalled(batch(chain.at), TOPIC, PLACE))
    certificate = role_key("selector").signer.certificate
    chain.follow(9, encode(msgspec.structs.replace(message, certificate=certificate)))
    assert chain.strangers == 1
