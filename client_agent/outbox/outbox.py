"""The outbox: what a device sends is on its disk before it is sent, and stays there until its outcome is known.

    kept → (a body above 16 KiB: stored → addressed) → sent → settled

`Device` calls it at each of these steps and may die between any two of them. It then continues from the last one: the
same update id, the same bytes, and no body stored twice once its address was kept. Residual and entries are named in
one file, the index, so they never disagree; the large ones lie in slots beside it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
from msgspec import UNSET

from client_agent.compression import restore
from client_agent.files import DamagedError, DoubleBufferedFile
from client_agent.identity import Identity
from client_agent.link import UpdateBody
from client_agent.outbox.slots import Piece, Slots
from schemas.errors import EXIT_USAGE, FedlogError
from schemas.events import UpdateSubmitted
from schemas.identifiers import BodyRef
from schemas.policy import Policy
from schemas.policy.metrics import Fidelity
from schemas.tensors import Floats
from schemas.updates import address_inline, sign_update

# A larger body inside the record would be read by everybody who reads `updates`.
INLINE_BYTES_MAX = 16 * 1024
# The longest wait for an outcome after the lease has ended: answers themselves are deleted after an hour.
GRACE_MS = 3_600_000

READS_MAX = 5  # of another task's outbox, before it is given up

# After these outcomes nothing returns to the residual: the update counts, or may count.
_FINAL_OUTCOMES = ("admitted", "duplicate")


class OutboxError(FedlogError):
    """The outbox's file holds something else; the message names it."""

    exit_code = EXIT_USAGE
    code = "outbox_unusable"


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One update on its way. `record` is its submission, signed once, so that every repeat has the same bytes.

    `envelope`: the sealed or masked body that is sent in the place of `body`, which a refusal gives back to the
    residual; `seals`: what is sealed to helpers beside a masked one; `sha256`: of what is sent, where it is known.

    By `until_ms` its lease has certainly ended, by the device's own clock, which may differ from the log's. `shards`:
    the task's number of partitions for large bodies.
    """

    update: str
    until_ms: int
    sealed: bytes
    samples: int
    metrics: tuple[int, ...] = ()
    fidelity: Fidelity | None = None
    codec: str
    body: Piece
    envelope: Piece | None = None
    seals: tuple[bytes, ...] = ()
    sha256: bytes | None = None
    shards: int = 1
    record: bytes | None = None


class _Index(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that a device and its learner remember of one task.

    `over` has each finished lease until long after its end.
    """

    task: str
    residual: Piece | None = None
    state: Piece | None = None
    entries: dict[str, Entry] = {}
    over: dict[str, int] = {}


class Outbox:
    """One device's updates for one task, in `folder`.

    `note_step` is called after each step, with its name; an exception from it stops the device, as a crash would.
    """

    def __init__(
        self,
        folder: Path,
        task: str,
        *,
        identity: Identity,
        synced: bool = True,
        note_step: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._path = folder / f"{task}.outbox"
        self._identity = identity
        self._note_step = note_step
        self._file = DoubleBufferedFile(self._path, synced=synced)
        self._slots = Slots(self._path, synced=synced)
        self._index = self._read_index(task)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The updates without an outcome, oldest first."""
        return tuple(self._index.entries.values())

    @property
    def residual(self) -> Floats | None:
        """What earlier updates left over, shape (parameters,); None before the first."""
        piece = self._index.residual
        return None if piece is None else np.frombuffer(self._read(piece), "<f4").astype(np.float32, copy=False)

    @property
    def state(self) -> bytes | None:
        """What the learner remembers of the last update that was kept."""
        return None if self._index.state is None else self._read(self._index.state)

    def is_over(self, update: str) -> bool:
        """Whether nothing more is to be done under this lease."""
        return update in self._index.over

    def keep(self, entry: Entry, residual: Floats | None, *, state: bytes | None = None) -> None:
        """Add an update, together with the residual and the learner's state that it leaves."""
        sent = self._read(_choose_sent(entry))
        if len(sent) <= INLINE_BYTES_MAX:
            address = address_inline(sent, codec=entry.codec)
            entry = self._sign(entry, address, inline=sent)
        # The slots are written before the index that names them: a crash in between changes nothing.
        body = self._slots.put(self._read(entry.body), taken=self._list_pieces())
        taken, envelope, left, moved = [*self._list_pieces(), body], None, None, None
        # Sealed once and kept: another time the same body would have other bytes.
        if entry.envelope is not None:
            envelope = self._slots.put(sent, taken=taken)
        kept = msgspec.structs.replace(entry, body=body, envelope=envelope)
        taken = [*taken, envelope]
        if residual is not None:
            left = self._slots.put(_to_bytes(residual), taken=taken)
        # In the same index as the update: a state moves on exactly when its update is kept.
        if state is not None:
            moved = self._slots.put(state, taken=[*taken, left])
        entries = {**self._index.entries, entry.update: kept}
        self._write_index(residual=left, state=moved, entries=entries)
        self._note_step("kept")

    def find_unstored_body(self, update: str) -> UpdateBody | None:
        """The large body of `update`, to be stored before it is submitted; None once it has an address."""
        entry = self._index.entries[update]
        # A submission is signed when its body is inline or has an address, so there is nothing left to store.
        if entry.record is not None:
            return None
        return UpdateBody(
            task=self._index.task,
            device=self._identity.device,
            update=update,
            codec=entry.codec,
            shards=entry.shards,
            data=self._read(_choose_sent(entry)),
            known_sha256=entry.sha256,
            sealed=entry.sealed,
            key=self._identity.key,
        )

    def keep_address(self, update: str, address: BodyRef) -> None:
        """Sign the address of the stored body of `update` into its submission."""
        # Before the address is kept: a crash here costs a second copy of the body, never the update.
        self._note_step("stored")
        entry = self._sign(self._index.entries[update], address)
        self._write_index(entries={**self._index.entries, update: entry})
        self._note_step("addressed")

    def read_submission(self, update: str) -> bytes:
        """The signed message that submits `update`, whose body is inside it or has an address."""
        record = self._index.entries[update].record
        assert record is not None, f"update {update} is submitted before its body is stored"
        return record

    def has_submitted(self, update: str, record_sha256: bytes) -> bool:
        """Whether the submission of `update` is the record with this digest."""
        record = entry.record if (entry := self._index.entries.get(update)) else None
        return record is not None and hashlib.sha256(record).digest() == record_sha256

    def settle(self, update: str, outcome: str, *, policy: Policy) -> bool:
        """Forget an update with an outcome, and add a refused one to the residual. False when already settled."""
        entry = self._index.entries.get(update)
        # The aggregator repeats its outcome for every repeat of an update.
        if entry is None:
            return False
        left = self._index.residual
        if outcome not in _FINAL_OUTCOMES and (residual := self.residual) is not None:
            restored = restore(residual, self._read(entry.body), policy=policy)
            left = self._slots.put(_to_bytes(restored), taken=self._list_pieces())
        self._close(update, entry.until_ms, residual=left)
        self._note_step("settled")
        return True

    def give_up(self, update: str, until_ms: int) -> None:
        """Never train under this lease (again)."""
        self._close(update, until_ms, residual=self._index.residual)

    def forget(self, now_ms: int) -> None:
        """Drop what ended long ago. Nothing returns to the residual: an update counted twice is worse than one lost."""
        index = self._index
        entries = {name: entry for name, entry in index.entries.items() if entry.until_ms + GRACE_MS > now_ms}
        over = {name: until_ms for name, until_ms in index.over.items() if until_ms + GRACE_MS > now_ms}
        if len(entries) + len(over) < len(index.entries) + len(index.over):
            self._write_index(entries=entries, over=over)

    def _close(self, update: str, until_ms: int, *, residual: Piece | None) -> None:
        entries = {name: entry for name, entry in self._index.entries.items() if name != update}
        self._write_index(residual=residual, entries=entries, over={**self._index.over, update: until_ms})

    def _list_pieces(self) -> list[Piece | None]:
        """The pieces that the index names; their slots must not be written over."""
        entries = self._index.entries.values()
        bodies = [piece for entry in entries for piece in (entry.body, entry.envelope)]
        return [self._index.residual, self._index.state, *bodies]

    def _read(self, piece: Piece) -> bytes:
        try:
            return self._slots.get(piece)
        except FileNotFoundError as error:
            raise OutboxError(f"{error.filename} is missing; move {self._path} away to continue without it") from error

    def _sign(self, entry: Entry, address: BodyRef, *, inline: bytes | None = None) -> Entry:
        submission = UpdateSubmitted(
            sealed=entry.sealed,
            samples=entry.samples,
            metrics=entry.metrics,
            body=address,
            inline=inline,
            fidelity=entry.fidelity,
            seals=entry.seals or UNSET,
        )
        return msgspec.structs.replace(entry, record=sign_update(submission, self._identity.key))

    def _read_index(self, task: str) -> _Index:
        try:
            data = self._file.read()
            index = _Index(task=task) if data is None else msgspec.msgpack.decode(data, type=_Index)
        except (DamagedError, msgspec.DecodeError) as error:
            raise OutboxError(
                f"{self._path} is not an outbox ({error}); move it away to continue without it"
            ) from error
        # A folder that was copied or renamed would otherwise mix two tasks' residuals.
        if index.task != task:
            raise OutboxError(f"{self._path} belongs to task {index.task!r}, not to {task!r}")
        return index

    def _write_index(self, **changes: object) -> None:
        index = msgspec.structs.replace(self._index, **changes)
        self._file.write(msgspec.msgpack.encode(index))
        # Only now: after a write that failed, memory must agree with the disk.
        self._index = index


def _choose_sent(entry: Entry) -> Piece:
    return entry.body if entry.envelope is None else entry.envelope


def read_state(folder: Path, task: str) -> bytes | None:
    """What the learner of `task` remembers in this folder, where another process may be writing; None where nothing.

    Raises OutboxError where each look meets a write, or the file is damaged.
    """
    path = folder / f"{task}.outbox"
    for _ in range(READS_MAX):
        try:
            before = DoubleBufferedFile(path).read()
            if before is None:
                return None
            piece = msgspec.msgpack.decode(before, type=_Index).state
            state = None if piece is None else Slots(path, synced=False).get(piece)
            # A slot may have been written over since: only a state that the index still names is whole.
            if DoubleBufferedFile(path).read() == before:
                return state
        except (DamagedError, msgspec.DecodeError, FileNotFoundError):
            continue
    raise OutboxError(f"{path} is no outbox that can be read, or changes all the time: try again when it does not")


def _to_bytes(vector: Floats) -> bytes:
    # Little-endian on every machine, because the folder may move to another.
    return vector.astype("<f4", copy=False).tobytes()
