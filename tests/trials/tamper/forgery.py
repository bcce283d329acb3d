"""What a forger with all rights and each writer's key can do: change an event, and remake what hangs on it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import msgspec

from schemas.canonical import MalformedError, decode, encode
from schemas.certificates import parse_certified, read_certificate
from schemas.events import JournalEvent
from schemas.journal import Batch, JournalPosition, WriterClaimed, open_record
from streams.log import Record
from tests.worlds.ops_journal import journalled

Path = tuple[str | int, ...]


def mutated(batch: Batch, draw: Random) -> Batch | None:
    """The same with one value of one event changed to another that still fits its type; None where none was found."""
    places = [(d, e) for d, decision in enumerate(batch.decisions) for e in range(len(decision.events))]
    if not places:
        return None
    for _ in range(50):
        d, e = draw.choice(places)
        plain = msgspec.to_builtins(batch.decisions[d].events[e], builtin_types=(bytes,))
        leaf = draw.choice([path for path in _leaves(plain) if path[-1] != "type"])
        try:
            event = msgspec.convert(_with(plain, leaf, draw), JournalEvent, builtin_types=(bytes,))
            events = [*batch.decisions[d].events]
            events[e] = event
            decisions = [*batch.decisions]
            decisions[d] = msgspec.structs.replace(decisions[d], events=tuple(events))
            forged = msgspec.structs.replace(batch, decisions=tuple(decisions))
            if forged != batch and decode(encode(forged), Batch) == forged:
                return forged
        except (msgspec.ValidationError, MalformedError):
            continue
    return None


def _leaves(plain: Any, path: Path = ()) -> Iterator[Path]:
    items = plain.items() if isinstance(plain, dict) else enumerate(plain) if isinstance(plain, list | tuple) else None
    if items is None:
        yield path
        return
    for name, value in items:
        yield from _leaves(value, (*path, name))


def _with(plain: Any, path: Path, draw: Random) -> Any:
    if not path:
        return _other(plain, draw)
    if isinstance(plain, dict):
        return {k: _with(v, path[1:], draw) if k == path[0] else v for k, v in plain.items()}
    return [_with(v, path[1:], draw) if i == path[0] else v for i, v in enumerate(plain)]


def _other(value: Any, draw: Random) -> Any:
    match value:
        case bool():
            return not value
        case int():
            return value + draw.choice([1, -1, 7])
        case float():
            return value * draw.choice([0.5, 2.0]) + draw.choice([0.0, 1.0])
        case bytes():
            at = draw.randrange(len(value)) if value else 0
            return value[:at] + bytes([(value[at] if value else 0) ^ 1 << draw.randrange(8)]) + value[at + 1 :]
        case str():
            at = draw.randrange(len(value)) if value else 0
            return value[:at] + draw.choice("0a1b") + value[at + 1 :]
    return draw.choice([0, "x"])


@dataclass(slots=True)
class Forger:
    """Journals with some batches replaced; all that hangs on their bytes is computed anew.

    `chained` has the offsets of the records that are no zombie's.
    """

    records: Mapping[str, Sequence[Record]]
    chained: Mapping[str, set[int]]
    edits: dict[tuple[str, int], Batch] = field(default_factory=dict)
    _out: dict[str, list[Record]] = field(default_factory=dict)
    _stands: dict[str, list[tuple[int, JournalPosition]]] = field(default_factory=dict)

    def forged(self) -> dict[str, list[Record]]:
        """All records of all journals."""
        self._out = {topic: [] for topic in self.records}
        self._stands = {topic: [(-1, JournalPosition())] for topic in self.records}
        for topic, records in self.records.items():
            self._advance(topic, records[-1].offset + 1)
        return self._out

    def head(self, topic: str, seq: int) -> bytes:
        """The head of a journal right after a batch."""
        return next(at.head for _, at in self._stands[topic] if at.seq == seq)

    def _advance(self, topic: str, until: int) -> None:
        """Forge a journal below an offset; what a batch says of another journal wants that one forged first."""
        records, out = self.records[topic], self._out[topic]
        while len(out) < len(records) and records[len(out)].offset < until:
            record = records[len(out)]
            value = record.value or b""
            if record.offset in self.chained[topic]:
                value, at = self._forged(topic, record)
                self._stands[topic].append((record.offset, at))
            out.append(replace(record, value=value))

    def _forged(self, topic: str, record: Record) -> tuple[bytes, JournalPosition]:
        at = self._stands[topic][-1][1]
        value = record.value or b""
        item: Any = open_record(value)
        if isinstance(item, WriterClaimed):
            head = _sha256(_sha256(at.head) + _sha256(value))
            key = read_certificate(parse_certified(value).certificate).public_key
            return value, msgspec.structs.replace(at, claim=record.offset, head=head, key=key)
        batch = self.edits.get((topic, record.offset), item)
        journals = {
            name: self._stand(name, batch.position.offsets[name]) if name in self.records else known
            for name, known in batch.position.journals.items()
        }
        position = msgspec.structs.replace(batch.position, journals=journals)
        # Whoever holds the writer's key can sign: what is left is what others have read, and what was announced.
        forged = msgspec.structs.replace(batch, prev=at.head, position=position)
        value = journalled(forged, topic, record.partition)
        return value, msgspec.structs.replace(at, seq=batch.seq, head=_sha256(value))

    def _stand(self, topic: str, until: int) -> JournalPosition:
        self._advance(topic, until)
        return [at for offset, at in self._stands[topic] if offset < until][-1]


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
