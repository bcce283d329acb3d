"""What stands in an exported folder: `manifest.json`, and one file for each partition.

Each record is a frame: its offset, its length and its sha256, then msgpack `[offset, time, key, value]`. The manifest
has each partition's bounds, and an index: frames lie in blocks, each with its first offset and its length. So a damaged
file names the record; nothing is compressed across records, where one bit would take others with it. Whoever writes a
file can write its digests too: a change on purpose has to be found in the records (`fedlog verify`).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from typing import Annotated

import msgspec

from schemas.identifiers import PARTITIONS_MAX, PartitionCount
from streams.log import LogRefused, Place, Record, TopicPartition

FORMAT = "fedlog-export/3"
MANIFEST = "manifest.json"
# A folder may come from anybody, and a file of holes takes no room on a disk: what is held in memory is bounded here. A
# writer ends a block at 4 MiB; earlier ones counted values alone, and made larger ones of records without any.
MANIFEST_BYTES_MAX = 256 * 2**20
BLOCK_BYTES_MAX = 64 * 2**20

_FRAME_HEAD = struct.Struct(">QI32s")  # offset, number of bytes that follow, their sha256

Offset = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
Row = tuple[int, int, bytes | None, bytes | None]


class ExportDamaged(LogRefused):
    """A folder is no export, or a file of it is not what its manifest says."""

    code = "export_damaged"


class FrameDamaged(Exception):
    """A frame does not hold what was exported: at which offset, and at which byte of its block it begins."""

    def __init__(self, what: str, *, offset: int, byte: int) -> None:
        super().__init__(what)
        self.what, self.offset, self.byte = what, offset, byte

    def locate(self, at: TopicPartition, *, path: object, block_byte: int) -> ExportDamaged:
        """The error for a person: where in the log, and where in which file."""
        return ExportDamaged(f"{Place(at, self.offset)}: {self.what} ({path}, from byte {block_byte + self.byte} on)")


class Block(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Some records of a file: the offset of the first, and how many bytes of the file they take."""

    first: Offset
    bytes: Annotated[int, msgspec.Meta(ge=1, le=BLOCK_BYTES_MAX)]


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One partition: its offsets from `beginning` to `end`, holes included."""

    # It is part of a file's name, which must not lead out of the folder.
    topic: Annotated[str, msgspec.Meta(pattern=r"^[a-z]{1,32}\Z")]
    partition: Annotated[int, msgspec.Meta(ge=0, lt=PARTITIONS_MAX)]
    beginning: Offset
    end: Offset
    blocks: tuple[Block, ...]

    @property
    def at(self) -> TopicPartition:
        """The partition."""
        return TopicPartition(self.topic, self.partition)

    @property
    def file(self) -> str:
        """Its file in the folder."""
        return f"{self.topic}-{self.partition}"


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a folder holds."""

    # Read first: a reader refuses a format that it does not know instead of guessing.
    format: str
    # Of the cluster, not of the folder: where a task lives follows from it.
    partitions: PartitionCount
    parts: tuple[Part, ...]


def encode_frame(record: Record) -> bytes:
    """One record as it stands in a file."""
    row: Row = (record.offset, record.time_ms, record.key, record.value)
    data = msgspec.msgpack.encode(row)
    return _FRAME_HEAD.pack(record.offset, len(data), hashlib.sha256(data).digest()) + data


def decode_frames(data: bytes, at: TopicPartition) -> Iterator[Record]:
    """The records of one block. Raises FrameDamaged at the first frame that is not what was exported."""
    byte = 0
    while byte < len(data):
        offset, size, digest = _FRAME_HEAD.unpack(data[byte : byte + _FRAME_HEAD.size].ljust(_FRAME_HEAD.size))
        # A damaged length may reach beyond the block: then the row is shorter than it says.
        row = data[byte + _FRAME_HEAD.size : byte + _FRAME_HEAD.size + size]
        if len(row) != size or hashlib.sha256(row).digest() != digest:
            raise FrameDamaged("not the bytes that were exported", offset=offset, byte=byte)
        try:
            decoded = msgspec.msgpack.decode(row, type=Row)
        except msgspec.DecodeError as error:
            raise FrameDamaged(f"no record ({error})", offset=offset, byte=byte) from error
        # The digest does not cover the head, so a damaged offset shows only against the one in the row.
        if decoded[0] != offset:
            raise FrameDamaged(f"its frame says offset {offset}", offset=decoded[0], byte=byte)
        yield Record(*at, *decoded)
        byte += _FRAME_HEAD.size + size
