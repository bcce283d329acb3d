"""An exported folder as a log that cannot be written; every offset is the original's."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from pathlib import Path
from typing import NoReturn

import msgspec

from streams.exported.format import (
    FORMAT,
    MANIFEST,
    MANIFEST_BYTES_MAX,
    ExportDamaged,
    FrameDamaged,
    Manifest,
    Part,
    decode_frames,
)
from streams.log import Bounds, Draft, LogRefused, OffsetLost, Record, TopicPartition, Writer, scan


@dataclass(slots=True)
class _IndexedPart:
    """A partition of the folder, and the block that was read last.

    `starts` has the first offset of each block, `bytes_before` where each begins in the file.
    """

    part: Part
    starts: list[int]
    bytes_before: list[int]
    block_number: int = -1
    block: list[Record] = field(default_factory=list)

    def find_block(self, offset: int) -> int:
        """The number of the block that holds `offset`, or would."""
        return max(0, bisect_right(self.starts, offset) - 1)

    def end_of(self, number: int) -> int:
        """The offset at which the next block begins; for the last one, the partition's end."""
        return self.starts[number + 1] if number + 1 < len(self.starts) else self.part.end


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
        """The offset after the last record passed."""
        return self._positions[at]

    def seek(self, at: TopicPartition, offset: int) -> None:
        """Go on reading `at` from `offset`."""
        self._positions[at] = offset

    def close(self) -> None:
        """Read nothing more."""
        self._positions.clear()


class ExportedLog:
    """See `streams.log.EventLog`. Raises ExportDamaged where a file is not whole, and LogRefused on any write."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            if (size := (folder / MANIFEST).stat().st_size) > MANIFEST_BYTES_MAX:
                raise ExportDamaged(f"{folder / MANIFEST}: {size:,} bytes are no manifest")
            manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
        except FileNotFoundError as error:
            raise ExportDamaged(f"{folder} holds no {MANIFEST}: it was not written by `fedlog export-log`") from error
        except msgspec.DecodeError as error:
            raise ExportDamaged(f"{folder / MANIFEST}: {error}") from error
        # Before any file is opened: another format means other files.
        if manifest.format != FORMAT:
            raise ExportDamaged(f"{folder / MANIFEST}: format {manifest.format!r}, this release reads {FORMAT!r}")
        self.partitions = manifest.partitions
        self._parts = {part.at: self._index(part) for part in manifest.parts}

    def list_partitions(self, topics: Iterable[str]) -> list[int]:
        """The numbers of the partitions that the folder has of any of these topics."""
        return sorted({at.partition for at in self._parts if at.topic in {*topics}})

    def append(self, drafts: Sequence[Draft]) -> list[int]:
        """Refused."""
        self._refuse_to_write()

    def writer(self, name: str, *, settles: Collection[TopicPartition] = ()) -> Writer:
        """Refused."""
        self._refuse_to_write()

    def delete_records(self, at: TopicPartition, before_offset: int) -> None:
        """Refused."""
        self._refuse_to_write()

    def bounds(self, at: TopicPartition) -> Bounds:
        """The bounds that the partition had when it was exported."""
        part = self._find_part(at).part
        return Bounds(part.beginning, part.end)

    def list_bounds(self, places: Collection[TopicPartition]) -> dict[TopicPartition, Bounds]:
        """Those of several partitions."""
        return {at: self.bounds(at) for at in places}

    def find_written_end(self, at: TopicPartition) -> int:
        """The same end: an export holds nothing that was still open."""
        return self.bounds(at).end

    def first_since(self, at: TopicPartition, time_ms: int) -> int:
        """The first offset of `at` that was appended at `time_ms` or later; its end when there is none."""
        # Read in order, because an export has no index by time and is asked for it seldom.
        later = (record.offset for record in scan(self, at) if record.time_ms >= time_ms)
        return next(later, self.bounds(at).end)

    def reader(self, positions: Mapping[TopicPartition, int]) -> ExportedReader:
        """A reader that starts at these offsets."""
        return ExportedReader(self, positions)

    def bulk_reader(self, positions: Mapping[TopicPartition, int]) -> ExportedReader:
        """The same."""
        return self.reader(positions)

    def close(self) -> None:
        """Nothing is held open."""

    def read(self, at: TopicPartition, position: int) -> tuple[list[Record], int]:
        """The records of one block from `position` on, and the position after them."""
        indexed = self._find_part(at)
        if not indexed.part.beginning <= position <= indexed.part.end:
            bounds = f"{indexed.part.beginning} to {indexed.part.end}"
            raise OffsetLost(f"{self._folder} holds {bounds} of {at}, not {position}")
        number = indexed.find_block(position)
        block = self._read_block(indexed, number) if indexed.starts else []
        return [record for record in block if record.offset >= position], indexed.end_of(number)

    def _refuse_to_write(self) -> NoReturn:
        raise LogRefused(f"{self._folder} is an export, which cannot be written")

    def _find_part(self, at: TopicPartition) -> _IndexedPart:
        # Not an empty partition: a replay would take absent bodies for deleted ones.
        if at not in self._parts:
            raise LogRefused(
                f"the export {self._folder} has no {at}; "
                "`fedlog export-log` takes it along with --bodies or --all, or with its partition"
            )
        return self._parts[at]

    def _index(self, part: Part) -> _IndexedPart:
        """Its index. Every block must begin within the bounds and after the one before."""
        path = self._folder / part.file
        starts = [block.first for block in part.blocks]
        bytes_before = [*accumulate((block.bytes for block in part.blocks), initial=0)]
        if any(a >= b for a, b in pairwise([part.beginning - 1, *starts, part.end])):
            raise ExportDamaged(f"{path}: its blocks do not begin in order, within the partition's bounds")
        size = path.stat().st_size if path.is_file() else None
        # Compared at opening, so that a cut file is no short history for a reader that stops early.
        if size != bytes_before[-1]:
            found = "is missing" if size is None else f"{size} bytes"
            raise ExportDamaged(f"{path}: {found}, not {bytes_before[-1]} bytes")
        return _IndexedPart(part, starts, bytes_before)

    def _read_block(self, indexed: _IndexedPart, number: int) -> list[Record]:
        # A reader asks again for the rest of a block: it is decoded once.
        if indexed.block_number != number:
            indexed.block = self._decode_block(indexed, number)
            indexed.block_number = number
        return indexed.block

    def _decode_block(self, indexed: _IndexedPart, number: int) -> list[Record]:
        block, path = indexed.part.blocks[number], self._folder / indexed.part.file
        first_byte = indexed.bytes_before[number]
        with path.open("rb") as file:
            file.seek(first_byte)
            data = file.read(block.bytes)
        try:
            records = [*decode_frames(data, indexed.part.at)]
        except FrameDamaged as damaged:
            raise damaged.locate(indexed.part.at, path=path, block_byte=first_byte) from damaged
        offsets = [record.offset for record in records]
        if offsets[:1] != [block.first] or any(a >= b for a, b in pairwise([*offsets, indexed.end_of(number)])):
            where = f"{path}, from byte {first_byte} on (offset {block.first})"
            raise ExportDamaged(f"{where}: its records are not in the order of their offsets")
        return records
