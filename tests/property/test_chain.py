"""The chain (law 4): nothing in a journal can be changed, dropped, moved or repeated unseen."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.canonical import decode, encode
from schemas.events import InputsDropped
from schemas.journal import GENESIS, Batch, Chain, ChainBroken, ChainResumed
from tests.worlds.builders import batch, decision, writer_claimed


@dataclass
class Writer:
    """Writes a journal as an actor does, with a claim for every life; keeps what was written, by offset."""

    records: list[bytes] = field(default_factory=list)
    chain: Chain = field(default_factory=Chain)
    zombies: list[bytes] = field(default_factory=list)

    def claim(self) -> None:
        """A new life; the batch that the one before would have written next becomes a zombie's."""
        self.zombies.append(self._next())
        self._put(encode(writer_claimed("selector", nonce=bytes([len(self.records)]) * 32)))

    def batch(self) -> None:
        """The next batch."""
        self._put(self._next())

    def zombie(self) -> None:
        """The batch of a writer that has been superseded, appended all the same."""
        self.records.append(self.zombies[-1])

    def _put(self, data: bytes) -> None:
        self.chain.follow(len(self.records), data)
        self.records.append(data)

    def _next(self) -> bytes:
        at, offset = self.chain.at, len(self.records)
        dropped = InputsDropped(topic="updates", count=1, first_offset=offset, last_offset=offset)
        return encode(batch(at, decision(dropped, offset=offset, time_ms=offset)))


def written(steps: list[str]) -> Writer:
    """A journal that begins with a claim, takes these steps, and ends with a batch that vouches for the rest."""
    writer = Writer()
    for step in ["claim", *steps, "batch"]:
        getattr(writer, step)()
    return writer


def followed(records: list[bytes]) -> Chain:
    """The chain after all records."""
    chain = Chain()
    for offset, data in enumerate(records):
        chain.follow(offset, data)
    return chain


JOURNALS = st.lists(st.sampled_from(["claim", "batch", "batch", "batch"]), min_size=1, max_size=8).map(written)


@given(journal=JOURNALS)
def test_a_journal_as_written_is_followed(journal: Writer) -> None:
    """A reader ends with the writer's own seq, claim and head."""
    assert followed(journal.records).at == journal.chain.at


@given(journal=JOURNALS, data=st.data())
def test_a_flipped_bit_is_found(journal: Writer, data: st.DataObject) -> None:
    """A bit changed anywhere before the last record stops the reader."""
    at = data.draw(st.integers(0, len(journal.records) - 2))
    changed = bytearray(journal.records[at])
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(ChainBroken):
        followed([*journal.records[:at], bytes(changed), *journal.records[at + 1 :]])


@given(journal=JOURNALS, data=st.data())
def test_a_changed_last_record_has_another_head(journal: Writer, data: st.DataObject) -> None:
    """Nothing vouches for the last record yet; changed, it is refused or leaves the chain at another head."""
    changed = bytearray(journal.records[-1])
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        assert followed([*journal.records[:-1], bytes(changed)]).at != journal.chain.at
    except ChainBroken:
        return


@given(journal=JOURNALS, data=st.data())
def test_a_dropped_record_is_found(journal: Writer, data: st.DataObject) -> None:
    """A record left out, the offsets closed up or not, stops the reader."""
    at = data.draw(st.integers(0, len(journal.records) - 2))
    with pytest.raises(ChainBroken):
        followed([*journal.records[:at], *journal.records[at + 1 :]])
    with pytest.raises(ChainBroken):
        _skip(journal.records, at)


@given(journal=JOURNALS, data=st.data())
def test_a_moved_record_is_found(journal: Writer, data: st.DataObject) -> None:
    """Two records that change places stop the reader."""
    first = data.draw(st.integers(0, len(journal.records) - 2))
    second = data.draw(st.integers(first + 1, len(journal.records) - 1))
    records = [*journal.records]
    records[first], records[second] = records[second], records[first]
    with pytest.raises(ChainBroken):
        followed(records)


@given(journal=JOURNALS, data=st.data())
def test_a_repeated_record_is_found(journal: Writer, data: st.DataObject) -> None:
    """A record repeated stops the reader, or is counted: a copied claim supersedes what follows, as zombies."""
    at = data.draw(st.integers(0, len(journal.records) - 2))
    to = data.draw(st.integers(at + 1, len(journal.records) - 1))
    records = [*journal.records[:to], journal.records[at], *journal.records[to:]]
    try:
        chain = followed(records)
    except ChainBroken:
        return
    assert chain.zombies >= 1


@given(steps=st.lists(st.sampled_from(["claim", "batch", "zombie"]), min_size=1, max_size=10))
def test_zombies_are_skipped_and_counted(steps: list[str]) -> None:
    """A batch under a superseded claim is passed over wherever it lands, by every reader alike, and counted."""
    journal = written(["claim", *steps])
    chain = Chain()
    taken = [batch for offset, data in enumerate(journal.records) if (batch := chain.follow(offset, data))]
    assert chain.zombies == steps.count("zombie")
    assert [batch.seq for batch in taken] == [*range(steps.count("batch") + 1)]


# --- one by one -----------------------------------------------------------------------------------------------------


def test_the_message_names_the_offset_and_what_was_expected() -> None:
    """Whoever reads the error learns where the chain breaks, and how."""
    journal = written(["batch", "batch"])
    with pytest.raises(ChainBroken, match=r"offset 2: seq is 1, the chain expects 0"):
        _skip(journal.records, 1)


def _skip(records: list[bytes], left_out: int) -> None:
    chain = Chain()
    for offset, record in enumerate(records):
        if offset != left_out:
            chain.follow(offset, record)


def test_prev_covers_the_batch_before_and_each_claim_since() -> None:
    """`prev` is the digest over the batch before and the claims after it, in log order, so no claim can go missing."""
    journal = written(["batch", "claim", "claim"])
    first, *claims, last = journal.records[1:]
    head = hashlib.sha256(first).digest()
    for claim in claims:
        head = hashlib.sha256(hashlib.sha256(head).digest() + hashlib.sha256(claim).digest()).digest()
    assert decode(last, Batch).prev == head


def test_a_refused_record_leaves_the_chain_where_it_stood() -> None:
    """After ChainBroken the reader can try again with the right record."""
    journal = written(["batch"])
    chain = followed(journal.records[:2])
    before = chain.at
    with pytest.raises(ChainBroken):
        chain.follow(2, b"junk")
    assert chain.at == before
    assert chain.follow(2, journal.records[2]) is not None


RESUMED = ChainResumed(partition=0, seq=7, head=b"h" * 32, reason="disk restored", signature=b"s" * 64)


def test_only_an_accepted_resume_goes_on() -> None:
    """A ChainResumed without the operator's signature stops the reader like anything else off the chain."""
    with pytest.raises(ChainBroken, match="offset 0"):
        Chain().follow(0, encode(RESUMED))
    with pytest.raises(ChainBroken):
        Chain(accepts_resume=lambda resumed: resumed.signature != RESUMED.signature).follow(0, encode(RESUMED))


def test_an_accepted_resume_says_where_the_chain_goes_on() -> None:
    """After the operator's word the next batch must follow from its seq and head, and from nothing else."""
    journal = written(["batch"])
    resumed = msgspec.structs.replace(RESUMED, head=b"h" * 32)
    good = msgspec.structs.replace(decode(journal.records[1], Batch), seq=8, prev=resumed.head)
    chain = followed(journal.records[:1])
    chain.accepts_resume = lambda found: found == resumed
    chain.follow(1, encode(resumed))
    with pytest.raises(ChainBroken):
        chain.follow(2, encode(msgspec.structs.replace(good, prev=GENESIS)))
    assert chain.follow(2, encode(good)) == good
