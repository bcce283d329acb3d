"""The log in files: the same records at the same offsets, read by the same rules, and damage that is named."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from schemas.topics import CATALOGUE
from streams.exported import ExportDamaged, ExportedLog, export
from streams.exported.format import Block, encode_frame
from streams.exported.writer import write_block
from streams.log import Draft, LogRefused, OffsetLost, Record, TopicPartition, scan
from streams.memory import MemoryLog

AT = TopicPartition("rounds", 3)
EMPTY = TopicPartition("ledger", 3)


def _written() -> MemoryLog:
    """Ten records with holes between them, their beginning deleted; one a tombstone, one of another key."""
    times = iter(range(1_000, 2_000))
    log = MemoryLog(CATALOGUE, clock=lambda: next(times))
    for number in range(12):
        draft = Draft(
            topic="rounds", partition=3, value=None if number == 5 else bytes([number]) * 300, key=b"%d" % number
        )
        log.writer("w").commit([draft])
    log.delete_records(AT, 3)
    return log


@pytest.fixture(params=[1, 700, 2**20], ids=["a record a block", "three a block", "one block"])
def folder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr("streams.exported.writer.BLOCK_BYTES", request.param)
    log = _written()
    export(log, {AT: log.bounds(AT).end, EMPTY: 0}, folder=tmp_path / "out")
    return tmp_path / "out"


def _records(log: ExportedLog | MemoryLog, start: int | None = None) -> list[Record]:
    return [*scan(log, AT, start=start)]


def test_an_export_holds_the_same_records(folder: Path) -> None:
    """Offsets with their holes, append times, keys and tombstones: all of them as in the log."""
    log, copy = _written(), ExportedLog(folder)
    assert _records(copy) == _records(log)
    assert copy.bounds(AT) == log.bounds(AT)
    assert (copy.bounds(EMPTY), [*scan(copy, EMPTY)]) == ((0, 0), [])


def test_an_export_is_read_from_any_offset(folder: Path) -> None:
    """From a record, from a hole, from the end; outside the bounds is an error as it is in the log."""
    log, copy = _written(), ExportedLog(folder)
    for start in range(3, log.bounds(AT).end + 1):
        assert _records(copy, start) == _records(log, start)
    for outside in (2, log.bounds(AT).end + 1):
        with pytest.raises(OffsetLost):
            copy.reader({AT: outside}).poll(0)
    assert copy.first_since(AT, 1_006) == log.first_since(AT, 1_006)
    assert copy.first_since(AT, 9_999) == log.bounds(AT).end


def test_nobody_writes_an_export(folder: Path) -> None:
    """An export is read only."""
    copy = ExportedLog(folder)
    for attempt in (lambda: copy.append([]), lambda: copy.writer("w"), lambda: copy.delete_records(AT, 5)):
        with pytest.raises(LogRefused, match="cannot be written"):
            attempt()


def test_what_was_not_exported_is_no_empty_topic(folder: Path) -> None:
    """Silence about bodies would look like bodies that are gone: the message says what to do."""
    with pytest.raises(LogRefused, match="--bodies"):
        ExportedLog(folder).bounds(TopicPartition("bodies", 3))


def test_each_flipped_byte_of_a_file_is_named(folder: Path) -> None:
    """Damage on a disk is told from what was changed on purpose, with topic, partition and offset of its record."""
    path = folder / "rounds-3"
    whole = path.read_bytes()
    records = _records(ExportedLog(folder))
    offsets = [record.offset for record in records for _ in encode_frame(record)]
    assert len(offsets) == len(whole)
    last = len(encode_frame(records[-1]))
    for at in {*range(0, len(whole), 7), *range(len(whole) - last, len(whole) - last + 48)}:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        with pytest.raises(ExportDamaged, match=rf"^rounds\[3\]@{offsets[at]}: .*rounds-3, from"):
            _records(ExportedLog(folder))


@pytest.mark.parametrize("cut", [0, 10, None])
def test_a_file_of_another_length_is_named(folder: Path, cut: int | None) -> None:
    """A file cut short, or missing, is not a short history."""
    path = folder / "rounds-3"
    path.unlink() if cut is None else path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ExportDamaged, match="rounds-3"):
        ExportedLog(folder)


FORGED = {
    "no json": lambda manifest: b"{",
    "another format": lambda manifest: manifest.replace(b"export/3", b"export/9"),
    "a field more": lambda manifest: manifest.replace(b'"format"', b'"more": 1, "format"'),
    "a shorter end": lambda manifest: manifest.replace(b'"end": 24', b'"end": 5'),
    "a later beginning": lambda manifest: manifest.replace(b'"beginning": 3', b'"beginning": 9'),
    "a file elsewhere": lambda manifest: manifest.replace(b'"rounds"', b'"/rounds"'),
    "a file above": lambda manifest: manifest.replace(b'"rounds"', b'"../out/rounds"'),
    "a million partitions": lambda manifest: manifest.replace(b'"partitions": 8', b'"partitions": 1000000'),
    "an endless partition": lambda manifest: manifest.replace(b'"end": 24', b'"end": 9223372036854775808'),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_manifest_that_cannot_be_is_refused(folder: Path, name: str) -> None:
    """What the manifest says is checked against itself and the files, with a message, never a traceback."""
    path = folder / "manifest.json"
    forged = FORGED[name](path.read_bytes())
    assert forged != path.read_bytes()
    path.write_bytes(forged)
    with pytest.raises(ExportDamaged):
        _records(ExportedLog(folder))


def test_a_file_of_holes_takes_no_memory(tmp_path: Path) -> None:
    """A block of gigabytes, or such a manifest, costs its author nothing; it is refused before any of it is read."""
    log = _written()
    manifest = export(log, {AT: 24}, folder=tmp_path)
    size = 1 << 36
    os.truncate(tmp_path / "rounds-3", size)
    part = msgspec.structs.replace(manifest.parts[0], blocks=(Block(3, size),))
    (tmp_path / "manifest.json").write_bytes(msgspec.json.encode(msgspec.structs.replace(manifest, parts=(part,))))
    with pytest.raises(ExportDamaged, match="bytes"):
        ExportedLog(tmp_path)
    os.truncate(tmp_path / "manifest.json", size)
    with pytest.raises(ExportDamaged, match="no manifest"):
        ExportedLog(tmp_path)


def test_records_out_of_order_are_refused(tmp_path: Path) -> None:
    """Whoever writes files anew, digests included, cannot make offsets go back."""
    log = _written()
    manifest = export(log, {AT: 24}, folder=tmp_path)
    records = _records(log)
    with (tmp_path / "rounds-3").open("wb") as file:
        block = write_block(file.write, [records[0], *reversed(records[1:])])
    part = msgspec.structs.replace(manifest.parts[0], blocks=(block,))
    (tmp_path / "manifest.json").write_bytes(msgspec.json.encode(msgspec.structs.replace(manifest, parts=(part,))))
    with pytest.raises(ExportDamaged, match="order of their offsets"):
        _records(ExportedLog(tmp_path))
