"""The public contract: one signed CloudEvent a version, of which anybody can tell that it was not changed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from schemas import published
from schemas.canonical import MalformedError
from schemas.published import Head, parse_checkpoint
from tests.worlds.builders import KEY, TASK, model_published, role_key, trust

HEAD = Head(topic="rounds", partition=3, seq=7, head="ab" * 32)
TIME_MS = 1_700_000_000_123


def _record(**changes: Any) -> bytes:
    """The record of version 4, with some of it changed before it is signed."""
    event = published.describe_version(model_published(4), TIME_MS, head=HEAD)
    return published.sign_statement({**event, **changes}, KEY.signing)


def test_a_version_is_announced_as_a_cloud_event() -> None:
    """Services that know nothing of fedlog find an id of their own, a type, a time and the model's address."""
    event = json.loads(_record())
    assert (event["specversion"], event["id"], event["subject"]) == ("1.0", f"{TASK}/4", TASK)
    assert (event["type"], event["time"]) == ("io.fedlog.model.published.v1", "2023-11-14T22:13:20.123Z")
    assert event["data"]["version"] == 4
    assert event["data"]["model"]["sha256"] == model_published(4).model.sha256.hex()


def test_the_same_version_gives_the_same_bytes() -> None:
    """Law 5: `published` is a pure function of the journal, so that what is missing can be written again."""
    assert _record() == _record()


def test_a_record_reads_back_with_its_head_and_key() -> None:
    """The head of the journal, and who vouches for it."""
    read = parse_checkpoint(_record())
    assert (read.id, read.heads, read.signed_by) == (f"{TASK}/4", (HEAD,), KEY.public_key)


def test_an_export_vouches_for_every_journal() -> None:
    """One record, as many heads as journals."""
    heads = [HEAD, Head(topic="ledger", partition=3, seq=2, head="cd" * 32)]
    read = parse_checkpoint(published.sign_statement(published.describe_heads(heads, TIME_MS), KEY.signing))
    assert list(read.heads) == heads


@pytest.mark.parametrize("field", ["id", "time", "source"])
def test_a_changed_record_is_not_signed(field: str) -> None:
    """The signature is over all of the record but itself."""
    event = json.loads(_record())
    event[field] += "x"
    with pytest.raises(MalformedError, match="not over these bytes"):
        parse_checkpoint(json.dumps(event, separators=(",", ":"), sort_keys=True).encode())


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b'{"id": 1}', b"\xff", b"[" * 100_000], ids=range(6))
def test_what_is_no_announcement_is_malformed(data: bytes) -> None:
    """`published` is readable by everybody; who writes junk to it stops no reader."""
    with pytest.raises(MalformedError):
        parse_checkpoint(data)


@pytest.mark.parametrize("field", ["id", "subject"])
def test_half_a_character_is_no_announcement(field: str) -> None:
    """A stranger's own signature over a lone surrogate ends nobody who compares the id with a key, or prints it."""
    with pytest.raises(MalformedError, match="UnicodeEncodeError"):
        parse_checkpoint(_record(**{field: "digits\ud800/1"}))


def test_an_aggregator_whose_time_is_over_announces_nothing() -> None:
    """Guarantee: a key that has run out, and was stolen since, does not speak by writing an earlier time."""
    signer = role_key("aggregator", until_ms=TIME_MS).signer
    event = published.describe_version(model_published(4), TIME_MS, head=HEAD)
    given = parse_checkpoint(published.sign_statement(event, signer.key, certificate=signer.certificate))
    assert published.is_vouched_for(given, trust(), at_ms=TIME_MS)
    assert not published.is_vouched_for(given, trust(), at_ms=TIME_MS + 1)


def test_other_spellings_of_a_record_are_refused() -> None:
    """Spaces or another order are other bytes: one record has one form."""
    with pytest.raises(MalformedError, match="canonical"):
        parse_checkpoint(json.dumps(json.loads(_record())).encode())
    event = json.loads(_record())
    event["signature"] = event["signature"].upper()
    with pytest.raises(MalformedError, match="canonical"):
        parse_checkpoint(json.dumps(event, separators=(",", ":"), sort_keys=True).encode())
