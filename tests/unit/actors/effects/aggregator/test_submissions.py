"""An update as it is read: under which lease it counts, and where its body may lie."""

from __future__ import annotations

import hashlib

import msgspec
import pytest

from actors.effects.aggregator.submissions import Submission, locate_body, verify_update
from actors.keys import OperatorKey
from schemas.canonical import MalformedError
from schemas.identifiers import BodyRef
from schemas.topics import BODIES, SHARDS, UPDATES, body_place
from streams.log import Record
from tests.places import PARTITIONS, home_of
from tests.worlds.builders import (
    TASK,
    body_ref,
    granted,
    lease,
    policy,
    signed,
    task_created,
    trust,
    update_submitted,
)

LEASE = lease("a")
CREATED = task_created(policy())
AT = home_of(TASK)
STORED = body_ref("stored", BODIES.name, partition=AT, size=40)


def _record(value: bytes) -> Record:
    return Record(UPDATES.name, AT, 41, 5_000, None, value)


def _submission(body: BodyRef, inline: bytes | None = None, *, record: bytes = b"") -> Submission:
    return Submission(LEASE, hashlib.sha256(record).digest(), body, inline, 7, (), None, 5_000, (41, 0))


def test_an_update_under_a_lease_of_ours_is_read() -> None:
    """The lease is the one that was sealed, and the append time is the record's."""
    record = _record(signed(update_submitted(granted(LEASE).sealed, STORED), "a"))
    assert verify_update(record, trust()) == _submission(STORED, record=record.value or b"")


def test_an_inline_body_lies_in_its_own_record() -> None:
    """Its address is where the record was found, whatever the device says of it."""
    record = _record(signed(update_submitted(granted(LEASE).sealed, b"small"), "a"))
    submission = verify_update(record, trust())
    assert submission is not None
    assert (submission.inline, submission.body.topic, submission.body.offsets) == (b"small", UPDATES.name, (41,))


def test_a_stolen_lease_is_of_no_use() -> None:
    """The signature has to be of the device that the sealed lease names."""
    record = _record(signed(update_submitted(granted(LEASE).sealed, STORED), "b"))
    assert verify_update(record, trust()) is None


def test_a_lease_of_another_operator_is_none() -> None:
    """An admission rests on a lease that our selector granted."""
    other = granted(LEASE, key=OperatorKey(bytes(32)))
    assert verify_update(_record(signed(update_submitted(other.sealed, STORED), "a")), trust()) is None


@pytest.mark.parametrize("value", [b"", b"\xc1", b"\x92" + bytes(80)])
def test_junk_is_malformed(value: bytes) -> None:
    """It carries no lease, so there is nobody to answer."""
    with pytest.raises(MalformedError):
        verify_update(_record(value), trust())


def test_a_stored_body_has_its_place() -> None:
    """Beside the task, or in a partition of `shards` that follows from task and device."""
    assert locate_body(CREATED, _submission(STORED)) == STORED
    spread = task_created(msgspec.structs.replace(policy(), shards=4))
    topic, partition = body_place(TASK, "a", shards=4, partitions=PARTITIONS)
    ref = msgspec.structs.replace(STORED, topic=topic, partition=partition)
    assert topic == SHARDS.name
    assert locate_body(spread, _submission(ref)) == ref
    wrong = msgspec.structs.replace(ref, partition=(partition + 1) % 8)
    assert locate_body(spread, _submission(wrong)) == "body_malformed"


WRONG = {
    "another topic": {"topic": "models"},
    "another codec": {"codec": "int8"},
    "more bytes than any update has": {"size": 1 << 40},
    "no offsets": {"offsets": ()},
}


@pytest.mark.parametrize("case", WRONG)
def test_an_address_that_no_device_of_ours_sends_is_malformed(case: str) -> None:
    """Sizes are bounded before memory is taken, and nothing is fetched from elsewhere."""
    assert locate_body(CREATED, _submission(msgspec.structs.replace(STORED, **WRONG[case]))) == "body_malformed"
