"""Any record as a line for people: readable where it can be read, and never an error."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import get_args

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from ops.history.merging import MergedReader
from ops.history.records import Line, lines
from schemas.canonical import decode, encode
from schemas.events import (
    Declined,
    InputsDropped,
    JournalEvent,
    Noticed,
    RoundOpened,
    Tick,
    UpdateSubmitted,
)
from schemas.topics import CATALOGUE
from streams.log import Record, TopicPartition
from streams.memory import MemoryLog
from tests.root import ROOT
from tests.worlds.builders import device_checked_in, granted, lease, signed, update_submitted
from tests.worlds.ops_journal import BODY, PLACE, TASK, Journal, created, memory_log

GOLDEN: dict[str, str] = json.loads((ROOT / "tests" / "trials" / "golden" / "facts.json").read_text())
DECLINED = Declined(device="d1", checkin_sha256=bytes(32), task=TASK, reason="paused", retry_after_ms=5)
DEVICE_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


def record(topic: str, value: bytes | None, *, key: bytes | None = None) -> Record:
    """A record as a reader gives it."""
    return Record(topic, PLACE, 7, 1_000, key, value)


def journal_lines(log: MemoryLog) -> Iterator[Line]:
    """Every line of the aggregator's journal."""
    for found in MergedReader(log, [TopicPartition("rounds", PLACE)]).read_past():
        yield from lines(found)


def test_a_batch_shows_each_event_with_its_offset_and_seq() -> None:
    """One record, two events: two lines at one place, with one seq."""
    log = memory_log()
    journal = Journal(log, "rounds")
    offset = journal.batch(Noticed(fact=created()), RoundOpened(task=TASK, round=0))
    found = list(journal_lines(log))
    assert [line.name for line in found] == ["WriterClaimed", "Noticed TaskCreated", "RoundOpened"]
    assert {(line.offset, line.seq, line.task) for line in found[1:]} == {(offset, 0, TASK)}
    assert f"rounds[{PLACE}]@{offset} #0" in found[2].text()
    assert "round=0" in found[2].text()


def test_a_batch_without_decisions_shows_the_position() -> None:
    """A batch that only moves the position is not invisible."""
    log = memory_log()
    Journal(log, "rounds").batch()
    found = list(journal_lines(log))
    assert [line.name for line in found] == ["WriterClaimed", "PositionMoved"]
    assert "updates=1" in found[1].text()


def submitted() -> UpdateSubmitted:
    """An update under a sealed lease."""
    return update_submitted(granted(lease("d1", lease="ab" * 16)).sealed, BODY)


READABLE: dict[str, tuple[Record, str, str]] = {
    "task": (record("tasks", encode(created())), "TaskCreated", "parameters=6"),
    "signed check-in": (
        record("checkins", signed(device_checked_in("d1"), DEVICE_KEY)),
        "DeviceCheckedIn",
        "device=d1",
    ),
    "tick": (record("updates", encode(Tick())), "Tick", ""),
    "update": (record("updates", signed(submitted(), DEVICE_KEY)), "UpdateSubmitted", "lease=abababab…"),
    "answer": (
        record(
            "answers",
            encode(DECLINED),
        ),
        "Declined",
        "reason=paused",
    ),
    "body": (record("bodies", bytes(1000), key=b"id/0"), "Chunk", "key=id/0 bytes=1000"),
    "tombstone": (record("models", None, key=b"id/0"), "Tombstone", "key=id/0"),
    "cloud event": (
        record("published", json.dumps({"type": "fedlog.model", "id": f"{TASK}/3"}).encode()),
        "fedlog.model",
        f"id={TASK}/3",
    ),
}


@pytest.mark.parametrize("case", READABLE)
def test_each_topics_records_are_readable(case: str) -> None:
    """Name, place and fields stand in one line."""
    found, name, text = READABLE[case]
    (line,) = lines(found)
    assert line.name == name
    assert text in line.text()
    assert "\n" not in line.text()


@pytest.mark.parametrize(
    "value",
    [
        b'{"type":"x","id":"y","data":' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"type":"\\u001b[2J","id":"a/1","\\u001b[2J":"\\u001b[2J"}',
        b'{"type":"x","id":"\\ud800/1"}',
        b'{"type":"x","id":[' + b"9" * 5_000 + b"]}",
    ],
    ids=["nested", "moves the cursor", "no text", "a long number"],
)
def test_what_a_stranger_announces_is_shown_and_moves_nothing(value: bytes) -> None:
    """`published` is open to other programs: whatever stands there is one line that every terminal takes."""
    (line,) = lines(record("published", value))
    assert line.text().isprintable()
    json.dumps(line.plain(), ensure_ascii=False).encode()


def test_facts_of_a_device_know_their_task() -> None:
    """A check-in names its task; an update's stands in the lease that it carries."""
    for case in ("signed check-in", "update", "cloud event", "task"):
        (line,) = lines(READABLE[case][0])
        assert line.task == TASK


def test_bytes_are_short_for_people_and_whole_for_machines() -> None:
    """A digest is cut in the line and complete in the JSON."""
    (line,) = lines(record("tasks", encode(created())))
    sha256 = created().policy_sha256.hex()
    assert sha256 not in line.text()
    assert line.plain()["values"]["policy_sha256"] == sha256
    json.dumps(line.plain())


@given(st.sampled_from([topic.name for topic in CATALOGUE]), st.binary(max_size=200))
def test_no_bytes_of_any_topic_stop_the_reader(topic: str, value: bytes) -> None:
    """Whatever a record holds, it gives a printable line."""
    for line in lines(record(topic, value)):
        assert line.text().isprintable()
        json.dumps(line.plain())


def test_every_event_of_a_journal_gives_a_line() -> None:
    """`fedlog events` shows each kind of event that a journal can hold, by its name."""
    for kind in get_args(JournalEvent):
        event = decode(bytes.fromhex(GOLDEN[kind.__struct_config__.tag]), kind)
        log = memory_log()
        Journal(log, "rounds").batch(event)
        names = [line.name for line in journal_lines(log)]
        assert any(kind.__name__ in name for name in names), names


def test_a_device_cannot_write_to_the_terminal() -> None:
    """Control characters in what others wrote are shown, not obeyed."""
    dropped = InputsDropped(topic="\x1b[2Jgone", count=1, first_offset=0, last_offset=0)
    log = memory_log()
    Journal(log, "rounds").batch(dropped)
    texts = [line.text() for line in journal_lines(log)]
    assert not any("\x1b" in text for text in texts)
    (chunk,) = lines(record("models", b"", key=b"\x1b[2J"))
    assert "\x1b" not in chunk.text()
