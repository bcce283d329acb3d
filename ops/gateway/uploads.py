"""Bodies on their way: each is held until it is whole, has its digest, and stands in the log.

An upload outlives its connection, and on disk the gateway's process too; not the machine, for then the device begins
again. So does the device of a short body that came at once and had no answer when its gateway ended. A lease has one.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from ops.gateway.behind.appending import Appending
from ops.gateway.behind.holding import Holding, Memory
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
# So many chunks of a body are on their way to the log at once, and those of so many bodies that are read from disk.
CHUNKS_AT_ONCE = 4
READING_AT_ONCE = 2
# Less than so many bytes in so long, and the device is taken to be gone; what has come stays.
SILENCE_S = 20.0
PROGRESS_BYTES = 4_096
# How long an address is kept after the lease's end, for a device that did not hear it.
KEPT_MS = 600_000


# Hands each part of a body to a function as it comes, until nothing more does.
Pour = Callable[[Callable[[bytes], object]], Awaitable[None]]


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
    """One upload: what it is of, and its bytes as far as they have come."""

    name: str
    claim: Claim
    held: Holding
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _receiving: asyncio.Timeout | None = None
    _is_over: bool = False

    @property
    def offset(self) -> int:
        """How many bytes have come."""
        return self.held.offset

    @property
    def address(self) -> BodyRef | None:
        """Where the body stands in the log; None before it does."""
        return self.claim.address

    def interrupt(self) -> None:
        """End the request that is sending to it: its device is here again, and knows no better way to say so."""
        if self._receiving is not None:
            self._receiving.reschedule(asyncio.get_running_loop().time())

    async def receive(self, pour: Pour, *, is_whole: bool) -> None:
        """Take bytes behind those that are there; all that were missing, where they say that it `is_whole` with them.

        Raises TooLarge, Unreadable; what has come stays.
        """
        if not await self.held.fits_memory():
            self.store()
        try:
            with self.held.open():
                await self._receive(pour)
        finally:
            # Whoever has to come back finds it after the end of this process too.
            if not (is_whole and self.offset == self.claim.length):
                self.store()

    def store(self) -> None:
        """Have it outlive this process, unless it is over."""
        if self._is_over:
            # What has come since then.
            self.held.end()
        elif not self.held.is_on_disk:
            self.held.store()
            self.write_claim()

    def note_address(self, address: BodyRef) -> None:
        """It stands in the log: from here on this is all that is ever asked for."""
        self.claim = msgspec.structs.replace(self.claim, address=address)
        if self.held.is_on_disk:
            self.write_claim()
        self.held.empty()

    def end(self) -> None:
        """Leave nothing behind, also of a request that is still sending to it."""
        self._is_over = True
        self.interrupt()
        self.held.end()
        self.held.path.with_suffix(".claim").unlink(missing_ok=True)

    def write_claim(self) -> None:
        """Write down what it is of."""
        path = self.held.path.with_suffix(".claim")
        written = path.with_suffix(".new")
        # Whole or not at all, whenever the process is killed.
        written.write_bytes(msgspec.msgpack.encode(self.claim))
        written.replace(path)

    async def _receive(self, pour: Pour) -> None:
        loop, noted = asyncio.get_running_loop(), self.offset

        def take(part: bytes) -> None:
            nonlocal noted
            if self.offset + len(part) > self.claim.length:
                raise TooLarge(f"More than the {self.claim.length:,} bytes that this upload has.")
            self.held.write(part)
            # A byte now and then is no upload, and would hold file and connection for as long as a lease.
            if self.offset - noted >= PROGRESS_BYTES:
                noted = self.offset
                receiving.reschedule(loop.time() + SILENCE_S)

        try:
            async with asyncio.timeout(SILENCE_S) as receiving:
                self._receiving = receiving
                await pour(take)
        except TimeoutError as error:
            raise Unreadable("The body stopped coming, or another request went on with it.", code="cut") from error
        finally:
            self._receiving = None


class Uploads:
    """The uploads of one gateway, in a folder of its own."""

    def __init__(self, folder: Path, appending: Appending, *, partitions: int) -> None:
        self._folder, self._appending, self._partitions = folder, appending, partitions
        folder.mkdir(parents=True, exist_ok=True)
        self._memory, self._reading = Memory(), asyncio.Semaphore(READING_AT_ONCE)
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
        name = secrets.token_hex(16)
        upload = Upload(name, claim, Holding(self._folder / f"{name}.part", self._memory, length))
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
        held = upload.held
        # Before anything is appended: what came damaged must not stand in the log.
        if (held.digest() if held.is_digested else await asyncio.to_thread(held.digest)) != claim.sha256:
            self.discard(upload)
            raise Unreadable("The bytes are not those of Repr-Digest: begin again.", code="digest_differs")
        try:
            offsets = [offset async for offset in self._append_chunks(upload)]
        except BaseException:
            # Its device waits now, and memory is for those that do not.
            upload.store()
            raise
        address = BodyRef(
            topic=claim.topic,
            partition=claim.partition,
            offsets=tuple(offsets),
            sha256=claim.sha256,
            size=claim.length,
            codec=claim.codec,
        )
        self._stored.setdefault(claim.lease, []).append(claim.until_ms)
        self._under_way.pop(upload.name, None)
        upload.note_address(address)
        return address

    def discard(self, upload: Upload) -> None:
        """Forget an upload."""
        self._open.pop(upload.name, None)
        self._under_way.pop(upload.name, None)
        self._of_lease.pop(upload.claim.lease, None)
        upload.end()

    def forget(self, now_ms: int) -> None:
        """Forget those whose leases ended a while ago."""
        for upload in [each for each in self._open.values() if each.claim.until_ms + KEPT_MS < now_ms]:
            self.discard(upload)
        for lease in [lease for lease, ends_ms in self._stored.items() if ends_ms[0] + KEPT_MS < now_ms]:
            del self._stored[lease]

    async def _append_chunks(self, upload: Upload) -> AsyncIterator[int]:
        claim, held = upload.claim, upload.held
        # In portions, and those of few at once, so that memory grows neither with a body nor with their number.
        reading = self._reading if held.is_on_disk else nullcontext()
        for first in range(0, -(-claim.length // CHUNK_BYTES), CHUNKS_AT_ONCE):
            async with reading:
                drafts = [
                    Draft(
                        topic=claim.topic,
                        partition=claim.partition,
                        key=f"{claim.lease}/{number}".encode(),
                        value=chunk,
                    )
                    for number, chunk in enumerate(held.read(first, CHUNKS_AT_ONCE), start=first)
                ]
                offsets = await self._appending.append(drafts)
            for offset in offsets:
                yield offset

    def _note(self, upload: Upload) -> None:
        self._open[upload.name] = self._of_lease[upload.claim.lease] = upload
        if upload.address is None:
            self._under_way[upload.name] = upload

    def _load(self) -> Iterator[Upload]:
        for path in self._folder.glob("*.claim"):
            part = path.with_suffix(".part")
            with suppress(msgspec.MsgspecError, OSError):
                claim = msgspec.msgpack.decode(path.read_bytes(), type=Claim)
                offset = claim.length if claim.address is not None else part.stat().st_size
                held = Holding(part, self._memory, claim.length, min(offset, claim.length), is_on_disk=True)
                yield Upload(path.stem, claim, held)


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
