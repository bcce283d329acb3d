"""What a journal's head tells those who may only read `published` and `ledger`: nothing; and what no claim proves."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import random
from collections.abc import Callable
from unittest.mock import patch

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from actors.deciders.arithmetic.sums import sum_digest
from actors.keys import OperatorKey
from schemas.canonical import encode
from schemas.certificates import Certified
from schemas.events import JournalEvent, StateDigest, SumStored
from schemas.journal import NO_KEY, Batch, Chain, ChainBroken, Decision, JournalPosition, open_record
from schemas.policy import WEIGHT_ONE
from schemas.signing import Signed, is_signed_by
from schemas.tensors import Grid, encode_update, read_update
from schemas.topics import LEDGER, PUBLISHED, ROUNDS, SELECTIONS
from streams.log import Draft, TopicPartition, scan
from tests.worlds.builders import batch as make_batch
from tests.worlds.builders import decision, policy, private_policy, trust, writer_claimed
from tests.worlds.federation import Federation, open_actor
from tests.worlds.ops_journal import journalled

WORLDS = 20
# So much noise that nothing else can tell the two apart: epsilon is about 0.01.
RULES = private_policy(1_000.0, 1e-5)
OTHERS = {"b": [1.0, 2.0, 0.0, 0.0], "c": [0.0, 0.0, 3.0, 0.0]}
CANDIDATES = ([0.5, 0.0, 0.0, 0.25], [0.0, 0.0, 0.0, 0.0])


@pytest.mark.parametrize(
    ("drawn", "wins"), [(os.urandom, range(5, 16)), (bytes, range(WORLDS, WORLDS + 1))], ids=["random", "known"]
)
def test_a_head_does_not_tell_two_updates_of_a_device_apart(drawn: Callable[[int], bytes], wins: range) -> None:
    """Who knows all but one device's update guesses it from the heads as from a coin; were the bytes known, always."""
    draw, right = random.Random(11), 0
    for _ in range(WORLDS):
        secret, coin = draw.randrange(2), draw.randrange(2)
        with patch("os.urandom", drawn):
            world = Federation(RULES)
            world.round_of({"a": CANDIDATES[secret], **OTHERS})
        told = [bit for bit in (0, 1) if _recompute_head(world, bit) == _published_head(world)]
        right += secret == (told[0] if told else coin)
    assert right in wins


def _published_head(world: Federation) -> str:
    """The newest head that subscribers see."""
    records = [*scan(world.log, TopicPartition(PUBLISHED.name, world.partition))]
    return str(json.loads(records[-1].value or b"")["data"]["journal"]["head"])


def _recompute_head(world: Federation, bit: int) -> str:
    """That head, if the device sent this candidate: the chain goes on from the last head that stands in `ledger`."""
    ledger = _batches(world, LEDGER.name)[-1]
    shown = ledger.position.journals[ROUNDS.name]
    head = shown.head
    for batch in _batches(world, ROUNDS.name):
        if batch.seq > shown.seq:
            decisions = tuple(_suppose(decision, bit) for decision in batch.decisions)
            # Everything else follows from arrivals, which the outsider may know; the nonce is what it has to guess.
            supposed = msgspec.structs.replace(batch, prev=head, nonce=bytes(16), decisions=decisions)
            # As if the outsider could sign too: what it cannot know must hide the bit by itself.
            head = hashlib.sha256(journalled(supposed, ROUNDS.name, world.partition)).digest()
    return head.hex()


def _suppose(decision: Decision, bit: int) -> Decision:
    """The same decision after a round in which the device sent this candidate."""

    def suppose(event: JournalEvent) -> JournalEvent:
        known = isinstance(event, SumStored)
        return msgspec.structs.replace(event, sum_sha256=sum_digest(_sum(bit))) if known else event

    return msgspec.structs.replace(decision, events=tuple(map(suppose, decision.events)))


def _sum(bit: int) -> Grid:
    """The exact sum of the round with this candidate; nothing here is clipped."""
    deltas = [np.asarray(delta, np.float32) for delta in (CANDIDATES[bit], *OTHERS.values())]
    return sum(read_update(encode_update(delta, RULES), RULES, parameters=4).grid() * WEIGHT_ONE for delta in deltas)


def _batches(world: Federation, topic: str) -> list[Batch]:
    records = scan(world.log, TopicPartition(topic, world.partition))
    found = [open_record(record.value or b"") for record in records]
    return [each for each in found if isinstance(each, Batch)]


ORDER = 2**252 + 27742317777372353535851937790883648493  # of the points that Ed25519 signs with
CLAMP = (1 << 254, (1 << 254) - 8)


def sign_under_no_key(message: bytes) -> bytes:
    """What OpenSSL takes for a signature of the key of 32 zeros: R = sB, whenever 4 divides the hash."""
    for seed in (number.to_bytes(32, "big") for number in itertools.count()):
        scalar = int.from_bytes(hashlib.sha512(seed).digest()[:32], "little") & CLAMP[1] | CLAMP[0]
        public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
        signature = public + (scalar % ORDER).to_bytes(32, "little")
        if is_signed_by(Signed(message, signature), NO_KEY):
            return signature
    raise AssertionError


def test_under_no_key_nobody_signs() -> None:
    """A reader that stands at a claim and has no key for it takes nothing, though anybody can sign under 32 zeros."""
    at = TopicPartition(SELECTIONS.name, 0)
    chain = Chain(*at, trust=trust("selector"), at=JournalPosition(claim=0))
    forged = encode(make_batch(chain.at, decision(StateDigest(decisions=1, sha256=bytes(32)))))
    signature = sign_under_no_key(f"{at.topic}/{at.partition}/".encode() + forged)
    assert chain.follow(1, encode(Certified(forged, signature, b""))) is None
    assert chain.strangers == 1


def test_a_strangers_claim_proves_no_batch() -> None:
    """A batch at the end of a journal counts under the claim that it names, and that claim under the operator's key."""
    world = Federation(policy())
    at = TopicPartition(SELECTIONS.name, world.partition)
    stranger = OperatorKey(b"s" * 32)
    claim = writer_claimed("selector", at.partition, after=world.log.bounds(at).end)
    [place] = world.log.append([Draft(**at._asdict(), value=journalled(claim, *at, key=stranger))])
    forged = make_batch(JournalPosition(claim=place), decision(StateDigest(decisions=1, sha256=bytes(32))))
    [offset] = world.log.append([Draft(**at._asdict(), value=journalled(forged, *at, key=stranger))])
    journal = open_actor(world, "selector")._journal
    [record] = [one for one in scan(world.log, at) if one.offset == offset]
    with pytest.raises(ChainBroken, match="before the first claim"):
        journal.prove(record)
