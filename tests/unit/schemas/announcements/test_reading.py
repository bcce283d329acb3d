"""What subscribers believe: the signature of the role whose word it is, and nothing because of where it stands."""

from __future__ import annotations

import json
from typing import Any

import pytest

from schemas.announcements.reading import Told, read_announcement
from schemas.canonical import MalformedError
from schemas.certificates import Trust
from schemas.published import sign_statement
from tests.worlds.builders import DEPLOYMENT, KEY, TASK, body_ref
from tests.worlds.ops_journal import PLACE
from tests.worlds.published.announcing import (
    TIME_MS,
    announce_rollout,
    announce_version,
    describe_published,
    describe_rollout,
    sign_as,
)

STRANGER = type(KEY)(bytes(32))


def read(record: bytes, *, at_ms: int = TIME_MS, partition: int = PLACE) -> Any:
    """What a reader with the operator's public key alone makes of a record."""
    return read_announcement(record, Trust(KEY.public_key, DEPLOYMENT), partition=partition, at_ms=at_ms)


def test_a_version_reads_back() -> None:
    """Guarantee: task, version and the model's address, typed."""
    found = read(announce_version(3))
    assert (found.kind.name, found.data.task, found.version, found.withdrawn) == ("published", TASK, 3, None)
    assert found.body == body_ref("model 3", "models", partition=PLACE)
    assert (found.id, found.time_ms, found.deployment) == (f"{TASK}/3", TIME_MS, DEPLOYMENT)


@pytest.mark.parametrize("kind", ["canary", "promoted"])
def test_a_rollout_reads_back(kind: str) -> None:
    """Guarantee: every kind names the version to be used, its model and the scores that the decision rests on."""
    found = read(announce_rollout(kind, 4))
    assert (found.kind.name, found.version, found.withdrawn) == (kind, 4, None)
    assert found.data.evidence[0].metric == "accuracy"


def test_after_a_rollback_the_earlier_version_is_the_one_to_use() -> None:
    """Guarantee: whoever deploys the version that is named never deploys what was withdrawn."""
    found = read(announce_rollout("rolledback", 4, to=2))
    assert (found.version, found.withdrawn) == (2, 4)
    assert found.body == body_ref("model 2", "models", partition=PLACE)


def test_no_version_is_named_where_none_is_to_be_used() -> None:
    """Guarantee: a halt names what is in doubt as no version to use, and a rollback may lead to none."""
    for record in (announce_rollout("halted", 4), announce_rollout("rolledback", 4, to=None)):
        assert (read(record).version, read(record).body) == (None, None)


@pytest.mark.parametrize(
    "record",
    [
        sign_as("aggregator", describe_rollout("promoted", 4)),
        sign_as("rollout", describe_published(4)),
        sign_as("evaluator", describe_rollout("promoted", 4)),
        sign_as("rollout", describe_rollout("promoted", 4), until_ms=TIME_MS - 1),
        sign_as("rollout", describe_rollout("promoted", 4), deployment=b"x" * 16),
        sign_statement(describe_rollout("promoted", 4), STRANGER.signing),
    ],
    ids=["an aggregator promotes", "a rollout publishes", "an evaluator", "an old key", "staging", "a stranger"],
)
def test_only_the_role_whose_word_it_is_is_believed(record: bytes) -> None:
    """Guarantee: a key speaks for its role, in its deployment, in its time."""
    with pytest.raises(MalformedError, match="signed by no"):
        read(record)


def test_a_key_that_ran_out_does_not_speak_by_an_earlier_time() -> None:
    """Guarantee: the log's time counts, and not only the one that a thief of the key writes."""
    record = sign_as("rollout", describe_rollout("promoted", 4), until_ms=TIME_MS)
    assert read(record) is not None
    with pytest.raises(MalformedError, match="signed by no rollout"):
        read(record, at_ms=TIME_MS + 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"version": -1},
        {"version": "4"},
        {"model": None},
        {"journal": None},
        {"evidence": [1]},
        {"task": "no name!"},
        {"task": f"{TASK}\n"},
    ],
)
def test_a_form_that_is_none_is_refused(changes: dict[str, Any]) -> None:
    """Guarantee: what a subscriber gets has the form that the description promises."""
    statement = describe_rollout("promoted", 4)
    statement["data"] |= changes
    with pytest.raises(MalformedError):
        read(sign_as("rollout", statement))


def test_an_announcement_counts_in_its_own_partition_alone() -> None:
    """Guarantee: a copy elsewhere is no second announcement."""
    with pytest.raises(MalformedError, match=r"it speaks of rollouts"):
        read(announce_rollout("promoted", 4), partition=PLACE + 1)


def test_a_later_releases_kind_and_field_are_passed_over() -> None:
    """Guarantee: both may be added, and no reader of today ends."""
    statement = describe_rollout("promoted", 4)
    assert read(sign_as("rollout", {**statement, "type": "io.fedlog.rollout.parked.v1"})) is None
    assert read(sign_as("rollout", {**statement, "data": {**statement["data"], "mood": "good"}})).version == 4


def test_what_was_told_is_known_again() -> None:
    """Guarantee: the batch's number tells a copy from news, and one batch may say two things."""
    told, first = Told(), read(announce_rollout("promoted", 4, seq=7))
    assert not told.has(first)
    told.note(first)
    assert told.has(first)
    assert told.has(read(announce_rollout("promoted", 3, seq=6)))
    assert not told.has(read(announce_rollout("canary", 5, seq=7)))
    told.note(read(announce_rollout("canary", 5, seq=7)))
    assert told.has(first)
    assert told.has(read(announce_rollout("canary", 5, seq=7)))
    assert not told.has(read(announce_rollout("promoted", 5, seq=8)))
    assert json.dumps(told.ids)
