"""The log in files: export partitions into a folder, and read such a folder as a log that nobody can write.

A folder holds `manifest.json` and one file a partition. Each record is a frame: its offset, its length and its sha256,
then msgpack `[offset, time, key, value]`. The manifest has each partition's bounds, and an index: frames lie in blocks,
each with its first offset and its length. So a damaged file names the record; nothing is compressed across records,
where one bit would take others with it. Whoever writes a file can write its digests too: what was changed on purpose
has to be found in the records (`fedlog verify`).
"""

from __future__ import annotations

import hashlib
import struct
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import msgspec

from streams.log import Bounds, Draft, EventLog, LogRefused, OffsetLost, Place, Record, TopicPartition, Writer, scan

FORMAT = "fedlog-export/2"
MANIFEST = "manifest.json"
BLOCK_BYTES = 4 * 2**20

Row = tuple[int, int, bytes | None, bytes | None]

_HEAD = struct.Struct(">QI32s")  # of a frame: offset, bytes that follow, their sha256


class ExportDamaged(LogRefused):
    """A folder is no export, or a file of it is not what its manifest says."""

    code = "export_damaged"


class Block(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Some records of a file: the offset of the first, and how many bytes of the file they take."""

    first: int
    bytes: int


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One partition: its offsets from `beginning` to `end`, holes included."""

    topic: str
    partition: int
    beginning: int
    end: int
    blocks: tuple[Block, ...]

    @property
    def file(self) -> str:
        """Its file in the folder."""
        return f"{self.topic}-{self.partition}"


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a folder holds."""

    format: str
    parts: tuple[Part, ...]


def export(
    log: EventLog,
    ends: Mapping[TopicPartition, int],
    *,
    folder: Path,
    is_past: Callable[[Record], bool] = lambda _: False,
) -> Manifest:
    """Copy each partition up to its end, or to its first record that `is_past`, into `folder`, new or empty.

    Raises FileExistsError where the folder holds anything.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise FileExistsError(17, "is not empty", str(folder))
    parts = tuple(_part(log, at, end=end, folder=folder, is_past=is_past) for at, end in ends.items())
    manifest = Manifest(format=FORMAT, parts=parts)
    (folder / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1))
    return manifest


def _part(log: EventLog, at: TopicPartition, *, end: int, folder: Path, is_past: Callable[[Record], bool]) -> Part:
    part = Part(**at._asdict(), beginning=log.bounds(at).beginning, end=end, blocks=())
    blocks: list[Block] = []
    with (folder / part.file).open("wb") as file:
        rows: list[Row] = []
        held = 0
        for record in scan(log, at, end=end):
            if is_past(record):
                end = record.offset
                break
            rows.append((record.offset, record.time_ms, record.key, record.value))
            held += len(record.value or b"")
            if held >= BLOCK_BYTES:
                blocks.append(_written(file.write, rows))
                rows, held = [], 0
        if rows:
            blocks.append(_written(file.write, rows))
    return msgspec.structs.replace(part, end=end, blocks=tuple(blocks))


def _written(write: Callable[[bytes], int], rows: Sequence[Row]) -> Block:
    frames = b"".join(_framed(row) for row in rows)
    write(frames)
    return Block(rows[0][0], len(frames))


def _framed(row: Row) -> bytes:
    data = msgspec.msgpack.encode(row)
    return _HEAD.pack(row[0], len(data), hashlib.sha256(data).digest()) + data


@dataclass(slots=True)
class _Held:
    """A partition of the folder, with the block that was read last."""

    part: Part
    starts: list[int]
    places: list[int]
    at: int = -1
    rows: list[Row] = field(default_factory=list)


class ExportedReader:
    """Reads some partitions of a folder, a block at a time."""

    def __init__(self, log: ExportedLog, positions: Mapping[TopicPartition, int]) -> None:
        self._log = log
        self._positions = dict(positions)

    def poll(self, timeout_s: float) -> list[Record]:
        """The rest of a block of each partition; it returns at once, whatever the timeout."""
        found: list[Record] = []
        for at in self._positions:
            records, self._positions[at] = self._log.read(at, self._positions[at])
            found += records
        return found

    def position(self, at: TopicPartition) -> int:
        return self._positions[at]

    def seek(self, at: TopicPartition, offset: int) -> None:
        self._positions[at] = offset

    def close(self) -> None:
        self._positions.clear()


class ExportedLog:
    """An exported folder as a log; every offset is the original's. Raises ExportDamaged where a file is not whole."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
        except FileNotFoundError as error:
            raise ExportDamaged(f"{folder} holds no {MANIFEST}: it was not written by `fedlog export-log`") from error
        except msgspec.DecodeError as error:
            raise ExportDamaged(f"{folder / MANIFEST}: {error}") from error
        if manifest.format != FORMAT:
            raise ExportDamaged(f"{folder / MANIFEST}: format {manifest.format!r}, this release reads {FORMAT!r}")
        self._held = {TopicPartition(part.topic, part.partition): self._opened(part) for part in manifest.parts}

    def partitions(self, topics: Iterable[str]) -> list[int]:
        """The numbers of the partitions that the folder has of any of these topics."""
        return sorted({at.partition for at in self._held if at.topic in {*topics}})

    def append(self, drafts: Sequence[Draft]) -> list[int]:
        raise LogRefused(f"{self._folder} is an export, which nobody writes")

    def writer(self, name: str) -> Writer:
        raise LogRefused(f"{self._folder} is an export, which nobody writes")

    def delete_records(self, at: TopicPartition, before_offset: int) -> None:
        raise LogRefused(f"{self._folder} is an export, which nobody writes")

    def bounds(self, at: TopicPartition) -> Bounds:
        part = self._at(at).part
        return Bounds(part.beginning, part.end)

    def first_since(self, at: TopicPartition, time_ms: int) -> int:
        later = (record.offset for record in scan(self, at) if record.time_ms >= time_ms)
        return next(later, self.bounds(at).end)

    def reader(self, positions: Mapping[TopicPartition, int]) -> ExportedReader:
        return ExportedReader(self, positions)

    def bulk_reader(self, positions: Mapping[TopicPartition, int]) -> ExportedReader:
        return self.reader(positions)

    def close(self) -> None:
        """Nothing is held open."""

    def read(self, at: TopicPartition, position: int) -> tuple[list[Record], int]:
        """The records of one block from `position` on, and the position after them."""
        held = self._at(at)
        if not held.part.beginning <= position <= held.part.end:
            bounds = f"{held.part.beginning} to {held.part.end}"
            raise OffsetLost(f"{self._folder} holds {bounds} of {at}, not {position}")
        number = max(0, bisect_right(held.starts, position) - 1)
        after = held.starts[number + 1] if number + 1 < len(held.starts) else held.part.end
        rows = self._rows(held, number) if held.starts else []
        found = [Record(at.topic, at.partition, *row) for row in rows if row[0] >= position]
        return found, after

    def _at(self, at: TopicPartition) -> _Held:
        if at not in self._held:
            raise LogRefused(
                f"the export {self._folder} has no {at}; "
                "`fedlog export-log` takes it along with --bodies or --all, or with its partition"
            )
        return self._held[at]

    def _opened(self, part: Part) -> _Held:
        """Its index. Every block must begin within the bounds and after the one before."""
        path = self._folder / part.file
        starts = [block.first for block in part.blocks]
        places = [0]
        for block in part.blocks:
            places.append(places[-1] + block.bytes)
        if any(a >= b for a, b in pairwise([part.beginning - 1, *starts, part.end])):
            raise ExportDamaged(f"{path}: its blocks do not begin in order, within the partition's bounds")
        size = path.stat().st_size if path.is_file() else None
        if size != places[-1]:
            raise ExportDamaged(f"{path}: {'is missing' if size is None else f'{size} bytes'}, not {places[-1]} bytes")
        return _Held(part, starts, places)

    def _rows(self, held: _Held, number: int) -> list[Row]:
        if held.at != number:
            held.rows = self._unpacked(held, number)
            held.at = number
        return held.rows

    def _unpacked(self, held: _Held, number: int) -> list[Row]:
        block, path = held.part.blocks[number], self._folder / held.part.file
        with path.open("rb") as file:
            file.seek(held.places[number])
            data = file.read(block.bytes)
        after = held.starts[number + 1] if number + 1 < len(held.starts) else held.part.end
        try:
            rows = [*_rows_of_frames(data)]
        except _Damaged as damaged:
            at = TopicPartition(held.part.topic, held.part.partition)
            raise ExportDamaged(
                f"{Place(at, damaged.offset)}: {damaged} ({path}, from byte {held.places[number] + damaged.byte} on)"
            ) from damaged
        offsets = [offset for offset, *_ in rows]
        if offsets[:1] != [block.first] or any(a >= b for a, b in pairwise([*offsets, after])):
            where = f"{path}, from byte {held.places[number]} on (offset {block.first})"
            raise ExportDamaged(f"{where}: its records are not in the order of their offsets")
        return rows


class _Damaged(Exception):
    """Bytes of a block are not what was exported: of which record, and where in the block that begins."""

    def __init__(self, what: str, *, offset: int, byte: int) -> None:
        super().__init__(what)
        self.offset, self.byte = offset, byte


def _rows_of_frames(data: bytes) -> Iterator[Row]:
    at = 0
    while at < len(data):
        offset, size, digest = _HEAD.unpack(data[at : at + _HEAD.size].ljust(_HEAD.size))
        row = data[at + _HEAD.size : at + _HEAD.size + size]
        if len(row) != size or hashlib.sha256(row).digest() != digest:
            raise _Damaged("not the bytes that were exported", offset=offset, byte=at)
        try:
            found = msgspec.msgpack.decode(row, type=Row)
        except msgspec.DecodeError as error:
            raise _Damaged(f"no record ({error})", offset=offset, byte=at) from error
        if found[0] != offset:
            raise _Damaged(f"its frame says offset {offset}", offset=found[0], byte=at)
        yield found
        at += _HEAD.size + size
