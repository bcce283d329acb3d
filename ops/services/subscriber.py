"""Follows `published` for whoever acts on it: each announcement at least once, from a position that is kept in a file.

The position moves on when the one who was told is done, and not before; what a death interrupts is told again.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from client_agent.files import write_durably
from ops.operator import models
from ops.operator.errors import ModelGone
from ops.services.standing import Purpose, StandingFile, StandingUnfit
from schemas import tensors
from schemas.announcements.forms import KINDS
from schemas.announcements.reading import Announcement, Told, find_place, read_announcement
from schemas.canonical import MalformedError
from schemas.certificates import Trust
from schemas.creations import find_deployment
from schemas.identifiers import BodyRef
from schemas.published import parse_statement
from schemas.topics import PUBLISHED, TASKS, partition_of
from streams.log import EventLog, LogRefused, Record, TopicPartition, scan
from streams.skipped import Skipped

From = Literal["beginning", "now"]
# How far whoever begins now looks back for what was announced last: a copy of something older is then known as one.
LOOKS_BACK = 5_000
FETCH_S = 600.0
# Of what is passed over the position is kept only now and then.
PASSED_MAX = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a subscriber is told: of one task or of all (empty), of these kinds, and from where on."""

    task: str = ""
    kinds: tuple[str, ...] = tuple(kind.name for kind in KINDS.values())
    begin: From = "now"


# What changes what everybody should use.
PROMOTIONS = ("promoted", "rolledback")


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One announcement, whose signatures hold.

    `version` is the one to be used, whose model `download` gives: of a rollback the one that it went back to; None
    where there is none, and of a halt. `withdrawn`: the version that was rolled back. `kind`: published, canary,
    promoted, rolledback or halted; `type` is its CloudEvents type.
    `data` is what the record says, with the digest and the address of the model.
    """

    type: str
    kind: str
    id: str
    task: str
    version: int | None
    withdrawn: int | None
    time: datetime
    sha256: str | None
    data: Mapping[str, Any]
    statement: Mapping[str, Any] = field(repr=False)
    _log: EventLog = field(repr=False, compare=False)
    _body: BodyRef | None = field(repr=False, compare=False)

    def download(self, path: str | Path) -> Path:
        """Write the model of `version` to a file: flat little-endian float32, the trained tensors one after the other.

        The stored bytes are compared with their digest first. It blocks: in an event loop call it by
        `asyncio.to_thread`. Raises ModelGone where there is none, or retention has deleted it; LogUnavailable.
        """
        # Learners come with this, and nothing else here needs them.
        from client_agent.setting import MODEL_BYTES_MAX

        if self._body is None:
            raise ModelGone(f"{self.id} names no model.")
        file = Path(path)
        stored = models.read_bytes(self._log, self._body, timeout_s=FETCH_S)
        weights = tensors.decompress_model(stored, size_max=MODEL_BYTES_MAX)
        # Whole or not at all: whoever serves the file must not load half of a model.
        write_durably(file, weights, mode=0o644)
        return file


class Subscriber:
    """Hands out one announcement at a time, and the next one when that is confirmed. Close it."""

    def __init__(self, log: EventLog, operator: bytes, *, wanted: Wanted, state: Path | None = None) -> None:
        """`operator`: the public key that all trust begins with. Raises StandingUnfit, FolderInUse, LogUnavailable."""
        self._log, self._wanted = log, wanted
        numbers = range(log.partitions) if not wanted.task else (partition_of(wanted.task, log.partitions),)
        self._places = [TopicPartition(PUBLISHED.name, number) for number in numbers]
        purpose = Purpose(
            operator=operator.hex(),
            topic=PUBLISHED.name,
            partitions=log.partitions,
            task=wanted.task,
            kinds=wanted.kinds,
        )
        self._file = StandingFile(state, purpose)
        self._skipped, self._passed = Skipped(), 0
        self._records: deque[Record] = deque()
        self._open: tuple[Record, Announcement] | None = None
        # Whoever cannot begin must not keep another from it.
        try:
            self._trust = Trust(operator, self._find_deployment(operator))
            if self._file.is_new:
                self._begin()
        except BaseException:
            self._file.close()
            raise
        self._reader = log.reader({at: self._file.standing.positions[str(at.partition)] for at in self._places})

    @property
    def skipped(self) -> int:
        """How many records it has passed over because nobody who may has signed them, or because they are copies."""
        return self._skipped.count

    def next(self, timeout_s: float) -> Published | None:
        """The next announcement; the same again until it is confirmed; None after `timeout_s` without any."""
        if self._open is None:
            # One at a time: what is read ahead is not told, and a death loses nothing of it.
            if not self._records:
                self._records.extend(self._reader.poll(timeout_s))
            while self._records and self._open is None:
                self._take(self._records.popleft())
        return None if self._open is None else self._describe(self._open[1])

    def confirm(self) -> None:
        """The announcement that `next` has given is done: it is not told again, whatever happens from now on."""
        if self._open is None:
            return
        record, announcement = self._open
        self._pass(record, announcement)
        self._file.save()
        self._open, self._passed = None, 0

    def close(self) -> None:
        """Keep the position, and release the reader."""
        self._reader.close()
        # Only what was passed over: what is open stays in front of the position.
        if self._passed:
            self._file.save()
        self._file.close()

    def _take(self, record: Record) -> None:
        """Open a record that is wanted, or pass over it."""
        announcement = self._believe(record)
        if announcement is not None and self._is_wanted(announcement):
            self._open = record, announcement
            return
        self._pass(record, announcement)
        self._passed += 1
        if self._passed >= PASSED_MAX:
            self._file.save()
            self._passed = 0

    def _believe(self, record: Record) -> Announcement | None:
        """What a record announces; None where it is not believed, or of a later release."""
        try:
            found = self._read(record)
        except MalformedError as error:
            self._skipped.note(record, str(error))
            return None
        if found is not None and self._find_told(found, record.partition).has(found):
            # A promotion of last week would be one of today.
            self._skipped.note(record, f"{found.id} again, or out of its order: somebody has copied it")
            return None
        return found

    def _read(self, record: Record) -> Announcement | None:
        value, partition = record.value or b"", record.partition
        return read_announcement(value, self._trust, partition=partition, at_ms=record.time_ms)

    # Of other tasks in this partition the order is learnt, too, and nothing is told.
    def _is_wanted(self, found: Announcement) -> bool:
        return self._wanted.task in ("", found.data.task) and found.kind.name in self._wanted.kinds

    def _pass(self, record: Record, announcement: Announcement | None) -> None:
        standing = self._file.standing
        standing.positions[str(record.partition)] = record.offset + 1
        if announcement is not None:
            self._find_told(announcement, record.partition).note(announcement)
            self._pin(announcement)

    def _find_told(self, found: Announcement, partition: int) -> Told:
        return self._file.standing.find_told(partition, found.data.journal.topic)

    def _pin(self, found: Announcement) -> None:
        """Take the deployment of the first announcement for ours, where nobody here may ask for its name."""
        if self._trust.deployment is None and found.deployment is not None:
            self._trust.deployment = found.deployment
            self._file.standing.deployment = found.deployment.hex()

    def _find_deployment(self, operator: bytes) -> bytes | None:
        """The name of the log's deployment; None where nobody here may ask for it, before the first announcement."""
        standing, found = self._file.standing, None
        # The principal of subscribers may read the public contract alone.
        with contextlib.suppress(LogRefused):
            found = find_deployment(scan(self._log, TopicPartition(TASKS.name, 0)), operator)
        if found is None:
            return bytes.fromhex(standing.deployment) or None
        if standing.deployment not in ("", found.hex()):
            raise StandingUnfit(
                f"The position was kept for deployment {standing.deployment}, and this log is of {found.hex()}."
            )
        standing.deployment = found.hex()
        return found

    def _begin(self) -> None:
        """The first position, which is kept at once: now is not later."""
        standing = self._file.standing
        for at, bounds in self._log.list_bounds(self._places).items():
            is_now = self._wanted.begin == "now"
            standing.positions[str(at.partition)] = bounds.end if is_now else bounds.beginning
            if is_now:
                self._look_back(at, end=bounds.end)
        self._file.save()

    def _look_back(self, at: TopicPartition, *, end: int) -> None:
        """Find what was announced last, of each journal."""
        start = max(self._log.bounds(at).beginning, end - LOOKS_BACK)
        for record in reversed([*scan(self._log, at, start=start, end=end)]):
            place = find_place(parse_statement(record.value or b""))
            # From the newest on, so that of most no signature has to be checked.
            if place is None or place[1] < self._file.standing.find_told(at.partition, place[0]).seq:
                continue
            with contextlib.suppress(MalformedError):
                found = self._read(record)
                if found is not None and not self._find_told(found, at.partition).has(found):
                    self._find_told(found, at.partition).note(found)
                    self._pin(found)

    def _describe(self, found: Announcement) -> Published:
        return Published(
            type=found.kind.type,
            kind=found.kind.name,
            id=found.id,
            task=found.data.task,
            version=found.version,
            withdrawn=found.withdrawn,
            time=datetime.fromtimestamp(found.time_ms / 1000, UTC),
            sha256=None if found.data.model is None else found.data.model.sha256,
            data=found.statement["data"],
            statement=found.statement,
            _log=self._log,
            _body=found.body,
        )
