"""The log in files: export partitions into a folder, and read such a folder as a log that nobody can write.

A folder holds `manifest.json` and one file a partition: blocks of records, each a msgpack list of `[offset, time, key,
value]` in one zstd frame. The manifest has each partition's bounds, and for each block its first offset, its length,
its length unpacked and its sha256. That finds damaged files; whoever writes a file can write its digest too, so what
was changed on purpose has to be found in the records (`fedlog verify`).
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import msgspec

from schemas.tensors import BodyError, compress, decompress
from streams.log import Bounds, Draft, EventLog, LogRefused, OffsetLost, Record, TopicPartition, Writer, scan

FORMAT = "fedlog-export/1"
MANIFEST = "manifest.json"
BLOCK_BYTES = 4 * 2**20

Row = tuple[int, int, bytes | None, bytes | None]


class ExportDamaged(LogRefused):
    """A folder is no export, or a file of it is not what its manifest says."""


class Block(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where some records of a file lie: `bytes` in the file, `size` unpacked."""

    first: int
    bytes: int
    size: int
    sha256: str


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
        for record in scan(log, at):
            if record.offset >= end or is_past(record):
                end = min(end, record.offset)
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
    plain = msgspec.msgpack.encode(rows)
    packed = compress(plain)
    write(packed)
    return Block(rows[0][0], len(packed), len(plain), hashlib.sha256(packed).hexdigest())


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
            raise OffsetLost(f"{self._folder} holds {bounds} of {at.topic}/{at.partition}, not {position}")
        number = max(0, bisect_right(held.starts, position) - 1)
        after = held.starts[number + 1] if number + 1 < len(held.starts) else held.part.end
        rows = self._rows(held, number) if held.starts else []
        found = [Record(at.topic, at.partition, *row) for row in rows if row[0] >= position]
        return found, after

    def _at(self, at: TopicPartition) -> _Held:
        if at not in self._held:
            raise LogRefused(
                f"the export {self._folder} has no {at.topic}/{at.partition}; "
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
        where = f"{path}, from byte {held.places[number]} on (offset {block.first})"
        with path.open("rb") as file:
            file.seek(held.places[number])
            packed = file.read(block.bytes)
        if hashlib.sha256(packed).hexdigest() != block.sha256:
            raise ExportDamaged(f"{where}: the bytes are not those that were exported")
        try:
            rows = msgspec.msgpack.decode(decompress(packed, block.size), type=list[Row])
        except (BodyError, msgspec.DecodeError) as error:
            raise ExportDamaged(f"{where}: {error}") from error
        offsets = [offset for offset, *_ in rows]
        after = held.starts[number + 1] if number + 1 < len(held.starts) else held.part.end
        if offsets[:1] != [block.first] or any(a >= b for a, b in pairwise([*offsets, after])):
            raise ExportDamaged(f"{where}: its records are not in the order of their offsets")
        return rows
