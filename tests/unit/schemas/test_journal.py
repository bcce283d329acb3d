"""Records of a journal one by one; the laws of the chain over many of them are in tests/property/test_chain.py."""

from __future__ import annotations

import hashlib

import pytest

from schemas.canonical import encode
from schemas.events import RoundOpened, Tick
from schemas.journal import Chain, ChainBroken, JournalPosition, OutOfStep, sign_record
from schemas.topics import SELECTIONS
from tests.worlds.builders import TASK, batch, decision, role_key, trust, writer_claimed
from tests.worlds.ops_journal import journalled

TOPIC = SELECTIONS.name
SIGNER = role_key("selector").signer


def _claimed() -> Chain:
    """A chain that has read its first claim."""
    chain = Chain(TOPIC, 0, trust("selector"))
    chain.follow(0, journalled(writer_claimed("selector"), TOPIC))
    return chain


def test_the_writer_and_its_reader_agree_on_the_chain() -> None:
    """A writer that steps without reading back stands where each reader of its records stands."""
    writer, reader = _claimed(), _claimed()
    written = batch(writer.at)
    data = journalled(written, TOPIC)
    writer.append(written, data)
    assert reader.follow(2, data) == written
    key = SIGNER.key.public_key().public_bytes_raw()
    assert writer.at == reader.at == JournalPosition(claim=0, seq=0, head=hashlib.sha256(data).digest(), key=key)


def test_a_batch_of_a_claim_still_to_come_breaks_the_chain() -> None:
    """A batch under a claim that the journal does not hold is no zombie's."""
    with pytest.raises(ChainBroken, match="claim is 5"):
        _claimed().follow(1, journalled(batch(JournalPosition(claim=5)), TOPIC))


def test_a_batch_out_of_its_turn_leaves_the_chain_where_it_stood() -> None:
    """Law 4: the error says what was expected and at which offset, and reading may go on from the same place."""
    chain = _claimed()
    before = chain.at
    with pytest.raises(OutOfStep, match="offset 7: seq is 3, the chain expects 0"):
        chain.follow(7, journalled(batch(before, decision(RoundOpened(task=TASK, round=0)), seq=3), TOPIC))
    assert chain.at == before


@pytest.mark.parametrize("record", [b"", b"\xc1", encode(Tick())], ids=["empty", "junk", "another fact"])
def test_what_its_writer_signed_is_a_record_of_the_journal(record: bytes) -> None:
    """What nobody signed is passed over; the same bytes from the writer itself break the chain."""
    chain = _claimed()
    assert chain.follow(1, record) is None
    assert chain.strangers == 1
    with pytest.raises(ChainBroken, match="offset 2: "):
        chain.follow(2, sign_record(record, topic=TOPIC, partition=0, key=SIGNER.key))


def test_without_the_operators_key_a_claim_is_taken_for_what_it_says() -> None:
    """A person who only looks sees what claims the journal; what does not fit the claim is passed over all the same."""
    chain = Chain(TOPIC, 0)
    chain.follow(0, journalled(writer_claimed("selector"), TOPIC, role="shard"))
    assert chain.at.claim == 0
    chain.follow(1, journalled(batch(chain.at), TOPIC))
    assert chain.strangers == 1
