"""Snapshots: an actor's state as it stood at a StateDigest, so that opening need not fold its journal from the start.

They are disposable, and of what one says only where its record stands is believed, for the signature of the journal's
writer: a copy of an old batch at the journal's end would take the actor back. The record has to be there, byte for
byte, and to end in the digest that the state gives; chain, position and time then come from that record. A snapshot
that is missing, stale, damaged or foreign costs a longer replay and nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import structlog

import schemas
from actors import deciders
from actors.runtime.journal import Journal, WrittenBatch
from schemas.canonical import MalformedError, decode, decode_state, encode
from schemas.certificates import Signer, Trust
from schemas.errors import FedlogError
from schemas.events import StateDigest
from schemas.journal import WRITERS, Batch, ChainBroken, Snapshot
from schemas.tensors import BodyError, compress, compute_frame_bytes_max, decompress, hash_payload
from schemas.topics import SNAPSHOTS
from streams.bodies import Absent, BodyReader, store
from streams.log import Draft, EventLog, LogError, LogUnavailable, Record, TopicPartition, scan

# Of a state, in memory; one that is larger costs a whole replay at each opening.
STATE_BYTES_MAX = 2**30

S = TypeVar("S")

logger = structlog.get_logger()


def _source_digest() -> bytes:
    """A digest of the source that folds and encodes: a state made by other code says nothing about this code's fold."""
    return digest_sources(Path(package.__path__[0]) for package in (deciders, schemas))


def digest_sources(folders: Iterable[Path]) -> bytes:
    """A digest over every module below these folders, each with its path: one that is moved, or nested, counts too."""
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted(folder.rglob("*.py")):
            digest.update(hashlib.sha256(path.relative_to(folder.parent).as_posix().encode()).digest())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.digest()


# Now, and not at first use: by then the files may be those of the next release.
CODE = _source_digest()


class StateAtDigest(NamedTuple):
    """A state's canonical bytes, and the batch whose last event is their digest."""

    state: bytes
    written: WrittenBatch


@dataclass(frozen=True, slots=True)
class LoadedSnapshot(Generic[S]):
    """A state that is proven to be the fold up to the end of `written`, which was appended at `since_ms`."""

    state: S
    written: WrittenBatch
    since_ms: int


class Unusable(FedlogError):
    """A snapshot that this actor cannot start from; the message says why."""

    code = "snapshot_unusable"


class Snapshots:
    """The snapshots of one actor on one partition: keeps the newest, by key, and gives it back if it holds."""

    def __init__(self, log: EventLog, journal: Journal, *, signer: Signer, trust: Trust) -> None:
        self._log, self._journal, self._actor = log, journal, journal.actor
        self._signer, self._trust = signer, trust
        self._at = TopicPartition(SNAPSHOTS.name, journal.at.partition)

    def keep(self, kept: StateAtDigest) -> None:
        """Store a snapshot, and its manifest last; one that fails is given up.

        Each has the keys of the one before, so that compaction keeps the newest. Another writer may be doing the same
        at the same time: what comes out of that is checked like everything else.
        """
        if len(kept.state) > STATE_BYTES_MAX:
            logger.warning("snapshot_too_large", actor=self._actor, size=len(kept.state), size_max=STATE_BYTES_MAX)
            return
        try:
            body = store(self._log, self._at, data=compress(kept.state), upload_id=self._actor, codec="state")
            manifest = Snapshot(
                code=CODE,
                offset=kept.written.offset,
                record_sha256=kept.written.at.head,
                size=len(kept.state),
                body=body,
            )
            signed = self._signer.certify(encode(manifest))
            self._log.append([Draft(**self._at._asdict(), key=self._actor.encode(), value=signed)])
        # A snapshot only saves time: that it failed must not stop an actor whose decisions are all committed.
        except LogError as error:
            logger.warning("snapshot_not_stored", actor=self._actor, partition=self._at.partition, why=str(error))

    def list_ends(self) -> dict[TopicPartition, int]:
        """How far readers must see before a snapshot of now rests on what they see."""
        return dict(self._journal.ends)

    def is_seen(self, ends: Mapping[TopicPartition, int]) -> bool:
        """Whether readers see what was committed up to there, here and beside; False where nobody answers."""
        with suppress(LogUnavailable):
            bounds = self._log.list_bounds(ends)
            if all(bounds[at].end >= end for at, end in ends.items()):
                # A successor may have aborted it: then its place can be read, and is empty.
                return all(any(scan(self._log, at, start=end - 1, end=end)) for at, end in ends.items())
        return False

    def newest(self, kind: type[S]) -> LoadedSnapshot[S] | None:
        """The newest snapshot, if a replay up to our claim may start from it.

        Raises LogUnavailable.
        """
        try:
            manifest = self._manifest()
            return None if manifest is None else self._check(self._read(manifest), kind)
        # A broker that is away says nothing about the snapshot, and to wait for it costs less than a whole replay.
        except LogUnavailable:
            raise
        # A machine without the memory for it may still have that of a replay.
        except (Unusable, ChainBroken, MalformedError, BodyError, LogError, MemoryError) as error:
            self.refuse(error)
            return None

    def refuse(self, why: Exception) -> None:
        """Say that the newest snapshot leads nowhere."""
        logger.warning("snapshot_not_used", actor=self._actor, partition=self._at.partition, why=str(why) or repr(why))

    def _read(self, manifest: Record) -> Snapshot:
        said = self._trust.read(manifest.value or b"", WRITERS[self._journal.at.topic], at_ms=manifest.time_ms)
        if said is None:
            raise Unusable("no writer of the journal has signed it")
        return decode(said, Snapshot)

    def _manifest(self) -> Record | None:
        """The newest manifest: it lies near the end, before at most what the partition's other actors wrote since."""
        beginning, end = self._log.bounds(self._at)
        # In growing steps from the end: the newest is nearly always among the last few, and to read the whole partition
        # would cost the time that a snapshot is there to save.
        start, window = end, 8
        reader = self._log.reader({self._at: end})
        try:
            while start > beginning:
                start, window = max(beginning, end - window), window * 8
                reader.seek(self._at, start)
                found: Record | None = None
                while reader.position(self._at) < end:
                    for record in reader.poll(timeout_s=1.0):
                        # Only the newest is kept: anybody with access to the topic may have written any number.
                        found = record if record.key == self._actor.encode() else found
                if found is not None:
                    return found
        finally:
            reader.close()
        return None

    def _check(self, snapshot: Snapshot, kind: type[S]) -> LoadedSnapshot[S]:
        # Other code may fold the same events otherwise, and a replay that begins here would not notice.
        if snapshot.code != CODE:
            raise Unusable("code of another release made it")
        record = self._find_record(snapshot)
        # From the journal's own record and not from the manifest, which says only where that stands.
        written = self._journal.prove(record)
        stated = closing_digest(written.batch)
        if stated is None:
            raise Unusable(f"the journal record at offset {record.offset} does not end in a digest")
        state = self._state(snapshot, stated)
        return LoadedSnapshot(decode_state(state, kind), written, since_ms=record.time_ms)

    def _find_record(self, snapshot: Snapshot) -> Record:
        """The journal record that the snapshot names, if it is still the same."""
        record = self._journal.record(snapshot.offset)
        if record is None:
            raise Unusable(f"{self._journal} has no record at offset {snapshot.offset}")
        if hashlib.sha256(record.value or b"").digest() != snapshot.record_sha256:
            raise Unusable(f"{self._journal} has another record at offset {snapshot.offset}")
        return record

    def _state(self, snapshot: Snapshot, stated: StateDigest) -> bytes:
        """The state's bytes, once the journal has proven them; before that no declared size takes memory."""
        if snapshot.size > STATE_BYTES_MAX:
            raise Unusable(f"it declares {snapshot.size} bytes, at most {STATE_BYTES_MAX}")
        reader = BodyReader(self._log, self._at.topic, self._at.partition)
        try:
            body = reader.fetch(snapshot.body, size_max=compute_frame_bytes_max(snapshot.size))
        finally:
            reader.close()
        if isinstance(body, Absent):
            raise Unusable(f"its bytes: {body}")
        if hash_payload(body, snapshot.size) != stated.sha256:
            raise Unusable(f"the state is not that of the digest at offset {snapshot.offset}")
        return decompress(body, snapshot.size)


def closing_digest(batch: Batch) -> StateDigest | None:
    """The digest that a batch ends in, if it does: its state is the one that the whole batch leads to."""
    match batch.decisions:
        case [*_, last] if last.events and isinstance(last.events[-1], StateDigest):
            return last.events[-1]
    return None
