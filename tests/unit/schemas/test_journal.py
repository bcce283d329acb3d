"""Records of a journal one by one; the laws of the chain over many of them are in tests/property/test_chain.py."""

from __future__ import annotations

import hashlib

import pytest

from schemas.canonical import encode
from schemas.events import RoundOpened, Tick
from schemas.journal import Chain, ChainBroken, ChainResumed, JournalPosition, OutOfStep
from tests.worlds.builders import TASK, batch, decision, writer_claimed

CLAIM = encode(writer_claimed("selector"))
RESUMED = ChainResumed(partition=0, seq=4, head=b"h" * 32, reason="cut by hand", signature=bytes(64))


def _claimed(**settings: object) -> Chain:
    """A chain that has read its first claim."""
    chain = Chain(**settings)  # type: ignore[arg-type]
    chain.follow(0, CLAIM)
    return chain


def test_the_writer_and_its_reader_agree_on_the_chain() -> None:
    """A writer that steps without reading back stands where each reader of its records stands."""
    writer, reader = _claimed(), _claimed()
    written = batch(writer.at)
    writer.append(written, encode(written))
    assert reader.follow(2, encode(written)) == written
    assert writer.at == reader.at == JournalPosition(claim=0, seq=0, head=hashlib.sha256(encode(written)).digest())


def test_a_batch_of_a_claim_still_to_come_breaks_the_chain() -> None:
    """A batch under a claim that the journal does not hold is no zombie's."""
    with pytest.raises(ChainBroken, match="claim is 5"):
        Chain().follow(0, encode(batch(JournalPosition(claim=5))))


def test_a_batch_out_of_its_turn_leaves_the_chain_where_it_stood() -> None:
    """Law 4: the error says what was expected and at which offset, and reading may go on from the same place."""
    chain = _claimed()
    before = chain.at
    with pytest.raises(OutOfStep, match="offset 7: seq is 3, the chain expects 0"):
        chain.follow(7, encode(batch(before, decision(RoundOpened(task=TASK, round=0)), seq=3)))
    assert chain.at == before


@pytest.mark.parametrize("data", [b"", b"\xc1", encode(Tick())], ids=["empty", "junk", "another fact"])
def test_what_is_no_record_of_a_journal_breaks_the_chain(data: bytes) -> None:
    """Nothing in a journal is skipped because it cannot be read."""
    with pytest.raises(ChainBroken, match="offset 1: not a journal record"):
        _claimed().follow(1, data)


def test_only_the_operator_resumes_a_chain() -> None:
    """A ChainResumed counts where the reader accepts its signature, and moves seq and head, never the claim."""
    with pytest.raises(ChainBroken, match="did not sign"):
        _claimed().follow(1, encode(RESUMED))
    chain = _claimed(accepts_resume=lambda resumed: resumed == RESUMED)
    chain.follow(1, encode(RESUMED))
    assert chain.at == JournalPosition(claim=0, seq=4, head=b"h" * 32)
