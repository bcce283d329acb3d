"""An export ends where it is asked to, and writes over nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.topics import ROUNDS
from streams.exported import ExportedLog, export
from streams.log import Draft, TopicPartition, scan
from streams.memory import MemoryLog

AT = TopicPartition(ROUNDS.name, 3)


@pytest.fixture
def log() -> MemoryLog:
    """Ten records, at even offsets: each is a transaction with its marker."""
    log = MemoryLog([ROUNDS])
    for number in range(10):
        log.writer("w").commit([Draft(**AT._asdict(), value=b"%d" % number)])
    return log


def test_it_ends_at_an_offset(log: MemoryLog, tmp_path: Path) -> None:
    """The end is exclusive, and the export's own end."""
    export(log, {AT: 5}, folder=tmp_path)
    copy = ExportedLog(tmp_path)
    assert [record.offset for record in scan(copy, AT)] == [0, 2, 4]
    assert copy.bounds(AT) == (0, 5)


def test_it_ends_before_the_first_record_that_is_past(log: MemoryLog, tmp_path: Path) -> None:
    """What stands behind a cut rests on records that were not taken along."""
    export(log, {AT: 20}, folder=tmp_path, is_past=lambda record: record.offset >= 8)
    assert ExportedLog(tmp_path).bounds(AT) == (0, 8)


def test_a_folder_that_holds_anything_is_not_written_over(log: MemoryLog, tmp_path: Path) -> None:
    """Two exports never mix."""
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError):
        export(log, {AT: 20}, folder=tmp_path)


def test_records_without_values_make_blocks_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Guarantee: however many tombstones follow each other, a reader holds one block of them at a time."""
    monkeypatch.setattr("streams.exported.writer.BLOCK_BYTES", 1_000)
    log = MemoryLog([ROUNDS])
    log.append([Draft(**AT._asdict(), value=None, key=b"%d" % number) for number in range(100)])
    (part,) = export(log, {AT: 100}, folder=tmp_path).parts
    assert len(part.blocks) >= 6
    assert len([*scan(ExportedLog(tmp_path), AT)]) == 100
