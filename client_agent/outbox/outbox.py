"""The outbox: what a device sends is on its disk before it is sent, and stays there until its outcome is known.

    kept → (a body above 16 KiB: stored → addressed) → sent → settled

A device may die between any two of these. It then goes on from the last one: the same update id, the same bytes, and
no body written twice once its address was kept. Residual and entries are named in one file, the index, so they never
disagree; what is large in them lies in slots beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from client_agent.compression import returned
from client_agent.files import DamagedError, DoubleBufferedFile
from client_agent.identity import Identity
from client_agent.outbox.slots import Piece, Slots
from schemas.errors import EXIT_USAGE, FedlogError
from schemas.events import UpdateSubmitted
from schemas.identifiers import BodyRef
from schemas.policy import Policy
from schemas.tensors import Floats
from schemas.topics import UPDATES, body_place, partition_of
from schemas.updates import address_inline, sign_update
from streams.bodies import Upload
from streams.log import Draft, TopicPartition

INLINE_BYTES_MAX = 16 * 1024
# An outcome is not waited for longer than this after the lease: the answer itself lives for an hour.
GRACE_MS = 3_600_000

# Outcomes after which nothing comes back: the update counts, or it is not known whether it does.
_SPENT = ("admitted", "duplicate")


class OutboxError(FedlogError):
    """The outbox's file holds something else; the message names it."""

    exit_code = EXIT_USAGE
    code = "outbox_unusable"


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One update on its way. `record` is what is sent, signed once, so that every repeat has the same bytes.

    By `until_ms` its lease is surely over; of the device's own clock, which may differ from the log's. `shards`: of its
    task, which say where a large body is stored.
    """

    update: str
    until_ms: int
    sealed: bytes
    samples: int
    codec: str
    body: Piece
    shards: int = 1
    record: bytes | None = None


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that a device remembers of one task; `over` has each finished lease until it is long past."""

    task: str
    residual: Piece | None = None
    entries: dict[str, Entry] = {}
    over: dict[str, int] = {}


class Outbox:
    """One device's updates for one task, in `folder`.

    `passed` is called after each step, with its name; what it raises stops the device there, as a crash would.
    """

    def __init__(
        self,
        folder: Path,
        task: str,
        *,
        identity: Identity,
        synced: bool = True,
        passed: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._path = folder / f"{task}.outbox"
        self._identity = identity
        self._passed = passed
        self._index = DoubleBufferedFile(self._path, synced=synced)
        self._slots = Slots(self._path, synced=synced)
        self._file = self._read(task)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """What has no outcome yet, oldest first."""
        return tuple(self._file.entries.values())

    @property
    def residual(self) -> Floats | None:
        """What earlier updates left over, shape (parameters,); None before the first."""
        kept = self._file.residual
        return None if kept is None else np.frombuffer(self._held(kept), "<f4").astype(np.float32, copy=False)

    def is_over(self, update: str) -> bool:
        """Whether nothing more is to be done under this lease."""
        return update in self._file.over

    def keep(self, entry: Entry, residual: Floats | None) -> None:
        """Take an update in, together with the residual that it leaves."""
        data = self._held(entry.body)
        if len(data) <= INLINE_BYTES_MAX:
            address = address_inline(data, partition=partition_of(self._file.task), codec=entry.codec)
            entry = self._signed(entry, address, inline=data)
        kept = msgspec.structs.replace(entry, body=self._slots.put(data, taken=self._taken()))
        left = None if residual is None else self._slots.put(_bytes(residual), taken=[*self._taken(), kept.body])
        self._write(residual=left, entries={**self._file.entries, entry.update: kept})
        self._passed("kept")

    def upload(self, update: str) -> Upload | None:
        """The large body of `update`, to be stored before it is submitted; None where that has been done."""
        entry = self._file.entries[update]
        if entry.record is not None:
            return None
        place = TopicPartition(*body_place(self._file.task, self._identity.device, shards=entry.shards))
        return Upload(at=place, upload_id=update, data=self._held(entry.body), codec=entry.codec)

    def address(self, update: str, body: BodyRef) -> None:
        """The large body of `update` is stored there."""
        self._passed("stored")
        entry = self._signed(self._file.entries[update], body)
        self._write(entries={**self._file.entries, update: entry})
        self._passed("addressed")

    def draft(self, update: str) -> Draft:
        """The record that submits `update`, which has no large body to be stored any more."""
        record = self._file.entries[update].record
        return Draft(topic=UPDATES.name, partition=partition_of(self._file.task), value=record)

    def settle(self, update: str, outcome: str, *, policy: Policy) -> bool:
        """The outcome is known: forget the update, take back what a refused one held. False when known before."""
        entry = self._file.entries.get(update)
        if entry is None:
            return False
        left = self._file.residual
        if outcome not in _SPENT and (residual := self.residual) is not None:
            back = returned(residual, self._held(entry.body), policy=policy)
            left = self._slots.put(_bytes(back), taken=self._taken())
        self._close(update, entry.until_ms, residual=left)
        self._passed("settled")
        return True

    def give_up(self, update: str, until_ms: int) -> None:
        """Never train under this lease (again)."""
        self._close(update, until_ms, residual=self._file.residual)

    def forget(self, now_ms: int) -> None:
        """Drop what is long past. Nothing comes back: an update counted twice is worse than one lost."""
        entries = {name: entry for name, entry in self._file.entries.items() if entry.until_ms + GRACE_MS > now_ms}
        over = {name: until for name, until in self._file.over.items() if until + GRACE_MS > now_ms}
        if len(entries) + len(over) < len(self._file.entries) + len(self._file.over):
            self._write(entries=entries, over=over)

    def _close(self, update: str, until_ms: int, *, residual: Piece | None) -> None:
        entries = {name: entry for name, entry in self._file.entries.items() if name != update}
        self._write(residual=residual, entries=entries, over={**self._file.over, update: until_ms})

    def _taken(self) -> list[Piece | None]:
        return [self._file.residual, *(entry.body for entry in self._file.entries.values())]

    def _held(self, piece: Piece) -> bytes:
        try:
            return self._slots.get(piece)
        except FileNotFoundError as error:
            raise OutboxError(f"{error.filename} is missing; move {self._path} away to go on without it") from error

    def _signed(self, entry: Entry, body: BodyRef, *, inline: bytes | None = None) -> Entry:
        fact = UpdateSubmitted(sealed=entry.sealed, samples=entry.samples, body=body, inline=inline)
        return msgspec.structs.replace(entry, record=sign_update(fact, self._identity.key))

    def _read(self, task: str) -> _File:
        try:
            data = self._index.read()
            held = _File(task=task) if data is None else msgspec.msgpack.decode(data, type=_File)
        except (DamagedError, msgspec.DecodeError) as error:
            raise OutboxError(f"{self._path} is not an outbox ({error}); move it away to go on without it") from error
        if held.task != task:
            raise OutboxError(f"{self._path} belongs to task {held.task!r}, not to {task!r}")
        return held

    def _write(self, **changes: object) -> None:
        changed = msgspec.structs.replace(self._file, **changes)
        self._index.write(msgspec.msgpack.encode(changed))
        self._file = changed


def _bytes(vector: Floats) -> bytes:
    return vector.astype("<f4", copy=False).tobytes()
