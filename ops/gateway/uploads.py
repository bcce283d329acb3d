"""Bodies on their way: each on disk until it is whole, has its digest, and stands in the log.

An upload outlives its connection and the gateway's process; not the machine, for then the device begins again. A lease
has one. What is received is not held in memory, however long it is.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import msgspec

from ops.gateway.behind.appending import Appending
from ops.gateway.entry import Entrant
from ops.gateway.refusals import Conflict, Overloaded, TooLarge, Unknown, Unreadable
from schemas.identifiers import CHUNK_BYTES, BodyRef
from schemas.policy import name_stored_codec
from schemas.topics import body_place
from streams.log import Draft

OPEN_MAX = 10_000
FOLDER_BYTES_MAX = 16 * 2**30
# A device that has lost its update may make another; what is appended stays in the log for days.
BODIES_PER_LEASE_MAX = 3
# So many chunks of a body are on their way to the log at once.
CHUNKS_AT_ONCE = 4
# Less than so many bytes in so long, and the device is taken to be gone; what has come stays.
SILENCE_S = 20.0
PROGRESS_BYTES = 4_096
# How long an address is kept after the lease's end, for a device that did not hear it.
KEPT_MS = 600_000


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """What an upload is of, as its creation said; it stands beside the bytes, for the next process."""

    lease: str
    task: str
    topic: str
    partition: int
    codec: str
    sha256: bytes
    length: int
    until_ms: int
    address: BodyRef | None = None


@dataclass(slots=True, eq=False)
class Upload:
    """One upload. `offset`: how many bytes have come."""

    name: str
    path: Path
    claim: Claim
    offset: int = 0
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _digest: Any = field(default_factory=hashlib.sha256)
    _digested: int = 0
    _receiving: asyncio.Timeout | None = None

    @property
    def address(self) -> BodyRef | None:
        """Where the body stands in the log; None before it does."""
        return self.claim.address

    def interrupt(self) -> None:
        """End the request that is sending to it: its device is here again, and knows no better way to say so."""
        if self._receiving is not None:
            self._receiving.reschedule(asyncio.get_running_loop().time())

    async def receive(self, parts: AsyncIterator[bytes], *, length_max: int) -> None:
        """Take bytes behind those that are there. Raises TooLarge, Unreadable; what has come stays."""
        with self.path.open("r+b") as file:
            file.seek(self.offset)
            try:
                async with asyncio.timeout(SILENCE_S) as self._receiving:
                    noted = self.offset
                    async for part in parts:
                        self._write(file, part, length_max=length_max)
                        # A byte now and then is no upload, and would hold file and connection for as long as a lease.
                        if self.offset - noted >= PROGRESS_BYTES:
                            noted = self.offset
                            self._receiving.reschedule(asyncio.get_running_loop().time() + SILENCE_S)
            except TimeoutError as error:
                raise Unreadable("The body stopped coming, or another request went on with it.", code="cut") from error
            finally:
                self._receiving = None

    def restart(self) -> None:
        """Forget what has come."""
        self.path.write_bytes(b"")
        self.offset = self._digested = 0
        self._digest = hashlib.sha256()

    def digest(self) -> bytes:
        """The sha256 of all that has come."""
        # After a restart nothing is known of what an earlier process has received.
        if self._digested != self.offset:
            with self.path.open("rb") as file:
                self._digest = hashlib.file_digest(file, "sha256")
            self._digested = self.offset
        digest: bytes = self._digest.digest()
        return digest

    def _write(self, file: IO[bytes], part: bytes, *, length_max: int) -> None:
        if self.offset + len(part) > length_max:
            raise TooLarge(f"More than the {length_max:,} bytes that this upload has.")
        file.write(part)
        # Straight to the system: what was counted has to be there when the process is killed.
        file.flush()
        if self._digested == self.offset:
            self._digest.update(part)
            self._digested += len(part)
        self.offset += len(part)


class Uploads:
    """The uploads of one gateway, in a folder of its own."""

    def __init__(self, folder: Path, appending: Appending, *, partitions: int) -> None:
        self._folder, self._appending, self._partitions = folder, appending, partitions
        folder.mkdir(parents=True, exist_ok=True)
        self._open: dict[str, Upload] = {}
        self._of_lease: dict[str, Upload] = {}
        # Those whose bytes are here; of those that are in the log an address is left.
        self._under_way: dict[str, Upload] = {}
        self._stored: dict[str, list[int]] = {}  # by lease: until when, once for each body
        for upload in self._load():
            self._note(upload)

    def __len__(self) -> int:
        return len(self._open)

    def create(self, entrant: Entrant, *, sha256: bytes, length: int) -> Upload:
        """A new upload, or the one that this lease has of the same bytes. Raises Overloaded, TooLarge."""
        before = self._of_lease.get(entrant.lease.lease)
        if before is not None:
            # Whoever lost the answer to a creation asks again, and goes on where it was.
            if (before.claim.sha256, before.claim.length) == (sha256, length):
                return before
            self.discard(before)
        if len(self._stored.get(entrant.lease.lease, ())) >= BODIES_PER_LEASE_MAX:
            raise TooLarge(f"This lease has stored {BODIES_PER_LEASE_MAX} bodies already.", code="bodies_spent")
        # The device's disk is its own; this one is everybody's.
        held = sum(upload.claim.length for upload in self._under_way.values())
        if len(self._under_way) >= OPEN_MAX or held + length > FOLDER_BYTES_MAX:
            raise Overloaded("Too many uploads are open.", code="uploads_full")
        claim = _claim(entrant, self._partitions, sha256=sha256, length=length)
        upload = Upload(name := secrets.token_hex(16), self._folder / f"{name}.part", claim)
        upload.path.touch(mode=0o600)
        self._write_claim(upload)
        self._note(upload)
        return upload

    def find(self, name: str) -> Upload:
        """The upload of this name. Raises Unknown."""
        if (upload := self._open.get(name)) is None:
            raise Unknown("There is no such upload here: create one.", code="upload_unknown")
        return upload

    async def finish(self, upload: Upload) -> BodyRef:
        """Append the whole body to the log; where it stands there. Raises Conflict, Unreadable, Overloaded."""
        if upload.address is not None:
            return upload.address
        claim = upload.claim
        if upload.offset != claim.length:
            raise Conflict(f"{upload.offset:,} of {claim.length:,} bytes have come.", code="incomplete")
        # Before anything is appended: what came damaged must not stand in the log.
        if await asyncio.to_thread(upload.digest) != claim.sha256:
            self.discard(upload)
            raise Unreadable("The bytes are not those of Repr-Digest: begin again.", code="digest_differs")
        offsets = [offset async for offset in self._append_chunks(upload)]
        address = BodyRef(
            topic=claim.topic,
            partition=claim.partition,
            offsets=tuple(offsets),
            sha256=claim.sha256,
            size=claim.length,
            codec=claim.codec,
        )
        self._stored.setdefault(claim.lease, []).append(claim.until_ms)
        upload.claim = msgspec.structs.replace(claim, address=address)
        self._under_way.pop(upload.name, None)
        self._write_claim(upload)
        # From here on its address is all that is ever asked for.
        upload.path.write_bytes(b"")
        return address

    def discard(self, upload: Upload) -> None:
        """Forget an upload."""
        upload.interrupt()
        self._open.pop(upload.name, None)
        self._under_way.pop(upload.name, None)
        self._of_lease.pop(upload.claim.lease, None)
        upload.path.unlink(missing_ok=True)
        upload.path.with_suffix(".claim").unlink(missing_ok=True)

    def forget(self, now_ms: int) -> None:
        """Forget those whose leases ended a while ago."""
        for upload in [each for each in self._open.values() if each.claim.until_ms + KEPT_MS < now_ms]:
            self.discard(upload)
        for lease in [lease for lease, ends_ms in self._stored.items() if ends_ms[0] + KEPT_MS < now_ms]:
            del self._stored[lease]

    async def _append_chunks(self, upload: Upload) -> AsyncIterator[int]:
        claim = upload.claim
        with upload.path.open("rb") as file:
            # In portions, so that memory does not grow with the body.
            for first in range(0, -(-claim.length // CHUNK_BYTES), CHUNKS_AT_ONCE):
                chunks = [chunk for _ in range(CHUNKS_AT_ONCE) if (chunk := file.read(CHUNK_BYTES))]
                drafts = [
                    Draft(
                        topic=claim.topic,
                        partition=claim.partition,
                        key=f"{claim.lease}/{number}".encode(),
                        value=chunk,
                    )
                    for number, chunk in enumerate(chunks, start=first)
                ]
                for offset in await self._appending.append(drafts):
                    yield offset

    def _note(self, upload: Upload) -> None:
        self._open[upload.name] = self._of_lease[upload.claim.lease] = upload
        if upload.address is None:
            self._under_way[upload.name] = upload

    def _write_claim(self, upload: Upload) -> None:
        path = upload.path.with_suffix(".claim")
        written = path.with_suffix(".new")
        # Whole or not at all, whenever the process is killed.
        written.write_bytes(msgspec.msgpack.encode(upload.claim))
        written.replace(path)

    def _load(self) -> Iterator[Upload]:
        for path in self._folder.glob("*.claim"):
            part = path.with_suffix(".part")
            with suppress(msgspec.MsgspecError, OSError):
                claim = msgspec.msgpack.decode(path.read_bytes(), type=Claim)
                offset = claim.length if claim.address is not None else part.stat().st_size
                yield Upload(path.stem, part, claim, offset=min(offset, claim.length))


def _claim(entrant: Entrant, partitions: int, *, sha256: bytes, length: int) -> Claim:
    lease, policy = entrant.lease, entrant.created.policy
    topic, partition = body_place(lease.task, lease.device, shards=policy.shard_count, partitions=partitions)
    return Claim(
        lease=lease.lease,
        task=lease.task,
        topic=topic,
        partition=partition,
        codec=name_stored_codec(policy),
        sha256=sha256,
        length=length,
        until_ms=lease.deadline_ms,
    )
