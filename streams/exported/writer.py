"""Copies partitions of a log into a folder, a block of frames at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from streams.exported.format import FORMAT, MANIFEST, Block, Manifest, Part, encode_frame
from streams.log import EventLog, Record, TopicPartition, scan

BLOCK_BYTES = 4 * 2**20
FRAME_BYTES = 64  # about what stands around a record


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
    # Files of another export would be read as part of this one.
    if any(folder.iterdir()):
        raise FileExistsError(17, "is not empty", str(folder))
    parts = tuple(_export_part(log, at, end=end, folder=folder, is_past=is_past) for at, end in ends.items())
    manifest = Manifest(format=FORMAT, partitions=log.partitions, parts=parts)
    # Last of all: a folder without a manifest is an export that did not come to its end.
    (folder / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1))
    return manifest


def _export_part(
    log: EventLog, at: TopicPartition, *, end: int, folder: Path, is_past: Callable[[Record], bool]
) -> Part:
    part = Part(**at._asdict(), beginning=log.bounds(at).beginning, end=end, blocks=())
    blocks: list[Block] = []
    with (folder / part.file).open("wb") as file:
        records: list[Record] = []
        records_bytes = 0
        for record in scan(log, at, end=end):
            if is_past(record):
                end = record.offset
                break
            records.append(record)
            # A record without a value takes room as well: a topic of them would be one block.
            records_bytes += len(record.value or b"") + len(record.key or b"") + FRAME_BYTES
            # Bounds what a reader holds at a time, and what it has to read for one record.
            if records_bytes >= BLOCK_BYTES:
                blocks.append(write_block(file.write, records))
                records, records_bytes = [], 0
        if records:
            blocks.append(write_block(file.write, records))
    return msgspec.structs.replace(part, end=end, blocks=tuple(blocks))


def write_block(write: Callable[[bytes], int], records: Sequence[Record]) -> Block:
    """Write some records of a partition; the block that they are."""
    frames = b"".join(encode_frame(record) for record in records)
    write(frames)
    return Block(records[0].offset, len(frames))
