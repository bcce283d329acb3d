"""The laws of the log, one suite for the log in memory and for Kafka: what one allows, the other allows too."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ops.processes import broker
from schemas.topics import UPDATES
from streams.kafka.log import KafkaLog
from streams.kafka.settings import KafkaSettings
from streams.kafka.writer import KafkaWriter
from streams.log import (
    KAFKA_RECORD_BYTES_MAX,
    Bounds,
    CommitUncertain,
    Draft,
    LogError,
    LogUnavailable,
    OffsetLost,
    Reader,
    Record,
    TopicPartition,
    WriterFenced,
    scan,
)
from streams.memory import MemoryLog, MemoryWriter

Log = KafkaLog | MemoryLog
Writer = KafkaWriter | MemoryWriter

EVENTS, OTHER = TopicPartition("events", 0), TopicPartition("other", 1)


@dataclass(frozen=True)
class Spec:
    """A topic of these tests."""

    name: str
    config: dict[str, str] = field(default_factory=lambda: {"cleanup.policy": "delete", **UPDATES.config})


@pytest.fixture(params=["memory", "kafka", "bulk"])
def log(request: pytest.FixtureRequest) -> Iterator[Log]:
    """Each implementation in turn, and the reader for bulk in the place of the other; two topics."""
    specs = [Spec("events"), Spec("other")]
    if request.param == "memory":
        yield MemoryLog(specs, clock=lambda: time.time_ns() // 1_000_000, partitions=2)
        return
    kafka: KafkaLog = request.getfixturevalue("kafka_log")
    kafka.create_topics(specs, partitions=2)
    if request.param == "bulk":
        kafka.reader = kafka.bulk_reader  # type: ignore[method-assign,assignment]
    yield kafka


def draft(text: str, at: TopicPartition = EVENTS) -> Draft:
    return Draft(topic=at.topic, partition=at.partition, value=text.encode())


def await_end(log: Log, at: TopicPartition, end: int) -> None:
    """Wait until readers can see up to `end`: a marker is written behind the answer to a commit."""
    give_up = time.monotonic() + 60
    while log.bounds(at).end < end and time.monotonic() < give_up:
        time.sleep(0.01)
    assert log.bounds(at).end == end


def read(log: Log, at: TopicPartition = EVENTS, *, end: int) -> list[tuple[int, str]]:
    """Offset and text of everything that a reader of committed records finds up to `end`, where the log ends."""
    await_end(log, at, end)
    return [(record.offset, (record.value or b"").decode()) for record in scan(log, at)]


def drain(reader: Reader, at: TopicPartition, end: int) -> list[Record]:
    """Read until the position has passed `end`, in bounded time."""
    found: list[Record] = []
    give_up = time.monotonic() + 60
    while reader.position(at) < end and time.monotonic() < give_up:
        found += reader.poll(0.2)
    return found


def left_open(log: Log, name: str, drafts: Sequence[Draft]) -> Writer:
    """A writer that stopped between writing and committing."""
    writer = log.writer(name)
    writer.begin()
    writer.put(drafts)
    return writer


def test_append_keeps_order_and_tells_offsets(log: Log) -> None:
    """Records of a partition are read in the order of appending, at the offsets that append returned."""
    assert log.append([draft("a"), draft("x", OTHER), draft("b")]) == [0, 0, 1]
    assert log.append([draft("c")]) == [2]
    assert read(log, end=3) == [(0, "a"), (1, "b"), (2, "c")]
    assert read(log, OTHER, end=1) == [(0, "x")]


def test_threads_append_side_by_side(log: Log) -> None:
    """Appends of several threads at once: each is told its own offsets, and keeps its own order."""

    def appended(thread: int) -> list[tuple[int, str]]:
        told = []
        for number in range(20):
            texts = [f"{thread}/{number}/{part}" for part in range(3)]
            offsets = log.append([draft(text) for text in texts])
            assert offsets == sorted(offsets)
            told += zip(offsets, texts, strict=True)
        return told

    with ThreadPoolExecutor(4) as threads:
        told = sorted(pair for pairs in threads.map(appended, range(4)) for pair in pairs)
    assert read(log, end=240) == told


def test_keys_tombstones_and_empty_values_survive(log: Log) -> None:
    """A key, a tombstone and an empty value come back as they went in, and a tombstone is not an empty value."""
    rows = [(b"k", b"v"), (b"k", None), (None, b""), (b"", b"v")]
    log.append([Draft(topic="events", partition=0, key=key, value=value) for key, value in rows])
    assert [(record.key, record.value) for record in scan(log, EVENTS)] == rows


def test_time_is_append_time(log: Log) -> None:
    """The time of a record is the clock of the log at the append, for plain and for transactional records."""
    before = time.time_ns() // 1_000_000
    log.append([draft("plain")])
    log.writer("w").commit([draft("transactional")])
    after = time.time_ns() // 1_000_000
    await_end(log, EVENTS, 3)
    assert len(list(scan(log, EVENTS))) == 2
    assert all(before <= record.time_ms <= after for record in scan(log, EVENTS))


def test_empty_partition(log: Log) -> None:
    """An empty partition has the bounds 0, 0; reading it gives nothing and does not move the position."""
    assert log.bounds(EVENTS) == Bounds(0, 0)
    assert read(log, end=0) == []
    reader = log.reader({EVENTS: 0})
    assert reader.poll(0.1) == []
    assert reader.position(EVENTS) == 0
    reader.close()


def test_bounds_of_many_are_those_of_each(log: Log) -> None:
    """Asked for at once, every partition has the bounds that it has alone: committed records only, none before any."""
    log.append([draft("a"), draft("b")])
    left_open(log, "w", [draft("open", OTHER)])
    await_end(log, EVENTS, 2)
    assert log.list_bounds([EVENTS, OTHER]) == {EVENTS: Bounds(0, 2), OTHER: Bounds(0, 0)}
    assert log.list_bounds([]) == {}


def test_transaction_is_atomic_over_topics(log: Log) -> None:
    """A commit writes all its records into every topic, and burns one offset for a marker in each partition."""
    writer = log.writer("w")
    assert writer.commit([draft("a"), draft("x", OTHER), draft("b")]) == [0, 0, 1]
    assert writer.commit([draft("c")]) == [3]
    assert read(log, end=5) == [(0, "a"), (1, "b"), (3, "c")]
    assert read(log, OTHER, end=2) == [(0, "x")]


def test_committing_nothing_writes_nothing(log: Log) -> None:
    """A commit of no records begins no transaction and burns no offset."""
    writer = log.writer("w")
    assert writer.commit([]) == []
    assert writer.commit([draft("a")]) == [0]
    await_end(log, EVENTS, 2)


def test_aborted_records_are_invisible_and_keep_their_offsets(log: Log) -> None:
    """What a writer left open is aborted by its successor: no reader sees it, its offsets and the marker's are gone."""
    left_open(log, "w", [draft("lost"), draft("lost", OTHER)])
    log.writer("w")
    assert log.append([draft("a")]) == [2]
    assert read(log, end=3) == [(2, "a")]
    assert read(log, OTHER, end=2) == []


def test_open_transaction_holds_readers_back(log: Log) -> None:
    """Nothing at or past the first record of an open transaction is readable, plain records included (the LSO)."""
    log.append([draft("a")])
    left_open(log, "w", [draft("open")])
    log.append([draft("b")])
    assert log.bounds(EVENTS) == Bounds(0, 1)
    assert log.find_written_end(EVENTS) == 3
    reader = log.reader({EVENTS: 0})
    seen = drain(reader, EVENTS, 1) + reader.poll(0.3)
    assert [record.value for record in seen] == [b"a"]
    log.writer("w")
    assert [record.value for record in drain(reader, EVENTS, 4)] == [b"b"]
    await_end(log, EVENTS, 4)
    reader.close()


def test_new_writer_fences_the_old_one(log: Log) -> None:
    """After a second writer of its name was started, the first commits nothing any more, now and later."""
    first = log.writer("w")
    first.commit([draft("a")])
    second = log.writer("w")
    for _ in range(2):
        with pytest.raises(WriterFenced):
            first.commit([draft("zombie")])
    second.commit([draft("b")])
    assert read(log, end=4) == [(0, "a"), (2, "b")]


@pytest.mark.parametrize("moment", ["before the commit", "between two records"])
def test_fence_in_mid_transaction(log: Log, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    """A writer fenced while it commits fails with WriterFenced, leaves nothing visible, and does not fence back."""
    first, put = log.writer("w"), type(log.writer("unused")).put
    successors: list[Writer] = []

    def fenced_put(drafts: Sequence[Draft]) -> list[int]:
        offsets = put(first, drafts[:1])  # type: ignore[arg-type]
        successors.append(log.writer("w"))
        return offsets + (put(first, drafts[1:]) if moment == "between two records" else [])  # type: ignore[arg-type]

    monkeypatch.setattr(first, "put", fenced_put)
    with pytest.raises(WriterFenced):
        first.commit([draft("zombie"), draft("zombie")])
    assert read(log, end=2) == []
    successors[0].commit([draft("a")])
    successors[0].commit([draft("b")])
    assert read(log, end=6) == [(2, "a"), (4, "b")]


def test_writers_of_other_names_are_not_fenced(log: Log) -> None:
    """Names are independent: two writers commit in turn."""
    one, two = log.writer("one"), log.writer("two")
    for text in "abcd":
        (one if text in "ac" else two).commit([draft(text)])
    assert [text for _, text in read(log, end=8)] == ["a", "b", "c", "d"]


def test_closing_a_writer_fences_nobody(log: Log) -> None:
    """A writer that is closed late does not disturb its successor, and commits no more itself."""
    first, second = log.writer("w"), log.writer("w")
    first.close()
    second.commit([draft("a")])
    with pytest.raises(LogError):
        first.commit([draft("b")])
    assert read(log, end=2) == [(0, "a")]


@pytest.mark.parametrize("ending", ["commit", "abort", "abort alone"])
def test_position_passes_markers_at_the_end(log: Log, ending: str) -> None:
    """A reader's position reaches the end of a log that ends in a marker, of aborted records alone too."""
    if ending != "abort alone":
        log.writer("w").commit([draft("a")])
    if ending != "commit":
        left_open(log, "v", [draft("lost")])
        log.writer("v")
    end = 4 if ending == "abort" else 2
    await_end(log, EVENTS, end)
    reader = log.reader({EVENTS: 0})
    found = drain(reader, EVENTS, end)
    assert reader.position(EVENTS) == end
    assert [record.value for record in found] == ([] if ending == "abort alone" else [b"a"])
    reader.close()


def test_each_partition_keeps_its_order(log: Log) -> None:
    """A reader of several partitions gets each in order, whatever the interleaving, and knows both positions."""
    log.append([draft(f"{n}", at) for n in range(700) for at in (EVENTS, OTHER)])
    reader = log.reader({EVENTS: 0, OTHER: 100})
    found = drain(reader, EVENTS, 700) + drain(reader, OTHER, 700)
    for at, first in ((EVENTS, 0), (OTHER, 100)):
        assert [record.offset for record in found if record.topic == at.topic] == list(range(first, 700))
    reader.close()


def test_seek_goes_back_and_forth(log: Log) -> None:
    """After a seek the next records are those from the new position on, what was fetched ahead is forgotten."""
    log.append([draft(f"{n}") for n in range(20)])
    reader = log.reader({EVENTS: 0})
    assert drain(reader, EVENTS, 1)[0].offset == 0
    for offset in (5, 19, 0):
        reader.seek(EVENTS, offset)
        assert reader.position(EVENTS) == offset
        assert drain(reader, EVENTS, offset + 1)[0].offset == offset
    reader.close()


def test_deleted_records_are_lost_loudly(log: Log) -> None:
    """Below the beginning and beyond the end a reader raises OffsetLost, again and again; it never jumps."""
    log.append([draft(f"{n}") for n in range(10)])
    log.delete_records(EVENTS, 6)
    assert log.bounds(EVENTS) == Bounds(6, 10)
    assert [offset for offset, _ in read(log, end=10)] == [6, 7, 8, 9]
    for lost in (0, 5, 11, 1000):
        reader = log.reader({EVENTS: lost})
        for _ in range(2):
            with pytest.raises(OffsetLost):
                drain(reader, EVENTS, lost + 1)
        reader.close()
    with pytest.raises(OffsetLost):
        log.delete_records(EVENTS, 11)


@pytest.mark.parametrize("first", [EVENTS, OTHER])
def test_what_stands_beside_a_lost_offset_is_read(log: Log, first: TopicPartition) -> None:
    """A reader that has lost its place in one partition skips nothing of another, and goes on where it is sent."""
    log.append([draft(f"{n}", at) for n in range(10) for at in (EVENTS, OTHER)])
    log.delete_records(EVENTS, 6)
    reader = log.reader({first: 0} | {EVENTS: 0, OTHER: 0})
    found: list[Record] = []
    try:
        while len(found) < 20:
            found += reader.poll(0.2)
    except OffsetLost:
        assert reader.position(EVENTS) == 0
        reader.seek(EVENTS, 6)
    found += drain(reader, EVENTS, 10) + drain(reader, OTHER, 10)
    for at, beginning in ((EVENTS, 6), (OTHER, 0)):
        assert [record.offset for record in found if record.topic == at.topic] == list(range(beginning, 10))
    reader.close()


def test_chunks_of_bodies(log: Log) -> None:
    """Records of 512 KiB go in and come out whole, through plain appends and through a transaction."""
    chunks = [bytes([n]) * (512 * 1024) for n in range(40)]
    drafts = [Draft(topic="events", partition=0, key=b"id/0", value=chunk) for chunk in chunks]
    log.append(drafts)
    log.writer("w").commit(drafts[:3])
    await_end(log, EVENTS, 44)
    assert [record.value for record in scan(log, EVENTS)] == chunks + chunks[:3]


def test_impossible_records_are_refused_before_sending() -> None:
    """A record above the broker's limit and a tombstone without a key fail when they are made, not in mid-commit."""
    Draft(topic="events", partition=0, value=bytes(KAFKA_RECORD_BYTES_MAX))
    with pytest.raises(ValueError, match="600,001 bytes"):
        Draft(topic="events", partition=0, value=bytes(KAFKA_RECORD_BYTES_MAX), key=b"k")
    with pytest.raises(ValueError, match="without a key"):
        Draft(topic="events", partition=0, value=None)


def test_largest_record_is_taken(log: Log) -> None:
    """The limit that a draft is checked against is one that the log keeps."""
    largest = Draft(topic="events", partition=0, value=bytes(KAFKA_RECORD_BYTES_MAX))
    assert log.append([largest]) == [0]
    assert log.writer("w").commit([largest]) == [1]


def test_kafka_comes_back(broker_folder: Path, kafka_log: KafkaLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the broker is down a reader waits, a commit is uncertain and its writer dead; then all goes on."""
    monkeypatch.setattr("streams.kafka.writer.COMMIT_TIMEOUT_S", 3.0)
    kafka_log.create_topics([Spec("events")])
    writer = kafka_log.writer("w")
    writer.commit([draft("a")])
    readers = [kafka_log.reader({EVENTS: 0}), kafka_log.bulk_reader({EVENTS: 0})]
    for reader in readers:
        assert [record.value for record in drain(reader, EVENTS, 2)] == [b"a"]
    broker.crash(broker_folder)
    for reader in readers:
        assert reader.poll(1.0) == []
    with pytest.raises(CommitUncertain):
        writer.commit([draft("doubtful")])
    with pytest.raises(LogUnavailable):
        kafka_log.bounds(EVENTS)
    broker.start(broker_folder)
    kafka_log.wait_ready(30)
    monkeypatch.undo()
    with pytest.raises(CommitUncertain):
        writer.commit([draft("later")])
    (offset,) = kafka_log.writer("w").commit([draft("b")])
    for reader in readers:
        assert [record.value for record in drain(reader, EVENTS, offset + 1)] == [b"b"]
        reader.close()


def test_kafka_that_never_was() -> None:
    """Without a broker everything but a reader says LogUnavailable, and a reader stays where it is."""
    log = KafkaLog(KafkaSettings(bootstrap_servers="127.0.0.1:9"))
    for reader in (log.reader({EVENTS: 7}), log.bulk_reader({EVENTS: 7})):
        assert reader.poll(0.1) == []
        assert reader.position(EVENTS) == 7
        reader.close()
    with pytest.raises(LogUnavailable):
        log.wait_ready(0.1)
