"""A device seals to a key that an aggregator of its deployment has signed, and to no other."""

from __future__ import annotations

import pytest

from schemas.canonical import MalformedError
from schemas.sealing.epochs import EPOCH_KEY_BYTES, EpochKey, open_statement, read_statement, sign_epoch_key
from tests.worlds.builders import DEPLOYMENT, role_key, trust

KEY = EpochKey(deployment=DEPLOYMENT, task="digits", epoch=4, public_key=bytes(EPOCH_KEY_BYTES))
OTHER = bytes(16)


def test_an_aggregators_word_is_believed() -> None:
    """The statement gives the key back, checked and unchecked alike."""
    statement = sign_epoch_key(KEY, role_key("aggregator").signer)
    assert open_statement(statement, trust(), at_ms=1) == read_statement(statement) == KEY


@pytest.mark.parametrize("role", ["selector", "privacy", "shard", "registrar"])
def test_no_other_role_names_a_key(role: str) -> None:
    """A selector that is taken over must not have updates sealed to a key of its own."""
    assert open_statement(sign_epoch_key(KEY, role_key(role).signer), trust(), at_ms=1) is None


def test_a_key_of_another_deployment_or_time_is_none() -> None:
    """One operator's staging has aggregators too, and certificates end."""
    signer = role_key("aggregator", deployment=OTHER).signer
    assert open_statement(sign_epoch_key(KEY, signer), trust(), at_ms=1) is None
    ended = role_key("aggregator", until_ms=5).signer
    assert open_statement(sign_epoch_key(KEY, ended), trust(), at_ms=6) is None


@pytest.mark.parametrize("data", [b"", b"junk", bytes(3000)])
def test_junk_is_no_key(data: bytes) -> None:
    """What an answer brings may be anything."""
    assert open_statement(data, trust(), at_ms=1) is None
    with pytest.raises(MalformedError):
        read_statement(data)
