"""Any record of any topic as values, and as a line for people; what cannot be read is shown as such, never an error."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from actors.wiring import ROLES
from ops.history.projections import find_task_of
from schemas.canonical import MalformedError, decode, to_plain
from schemas.certificates import parse_certified
from schemas.events import AnyEvent, Partial
from schemas.identifiers import TaskId
from schemas.journal import Batch, WriterClaimed, open_record
from schemas.leases import read_lease
from schemas.signing import parse_signed
from schemas.topics import BODIES, MODELS, PUBLISHED, SHARDS, SNAPSHOTS
from streams.log import Place, Record, TopicPartition
from streams.packing import unpack

_JOURNALS = frozenset(role.journal for role in ROLES.values())
_OPAQUE = frozenset(topic.name for topic in (BODIES, SHARDS, MODELS, SNAPSHOTS))
HEX_SHOWN = 8
ITEMS_SHOWN = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One fact of one record. `seq` stands in journals only; `task` is None where the fact is about none.

    `passed_over` says why readers of a journal do not take the record, if they do not. `message` is its number in a
    record that holds many.
    """

    topic: str
    partition: int
    offset: int
    time_ms: int
    name: str
    seq: int | None = None
    task: TaskId | None = None
    values: dict[str, Any] = field(default_factory=dict)
    passed_over: str | None = None
    message: int = 0

    def text(self) -> str:
        """For people: when, where, what, with every field; `ops.history.telling` says it in words."""
        return f"{self.begin()} {format_value(self.values)}".rstrip()

    def begin(self) -> str:
        """When and where, and the event's name."""
        when = datetime.fromtimestamp(self.time_ms / 1000, UTC).strftime("%H:%M:%S.%f")[:-3]
        place = Place(TopicPartition(self.topic, self.partition), self.offset)
        where = f"{place}" if self.seq is None else f"{place} #{self.seq}"
        where = f"{place}.{self.message}" if self.message else where
        name = _escape(self.name) if self.passed_over is None else f"[{self.passed_over}] {_escape(self.name)}"
        return f"{when}  {where:<24}  {name:<18}"

    def plain(self) -> dict[str, Any]:
        """For machines: all of it."""
        place = {"topic": self.topic, "partition": self.partition, "offset": self.offset, "time_ms": self.time_ms}
        seq = {} if self.seq is None else {"seq": self.seq}
        seq |= {"message": self.message} if self.message else {}
        passed_over = {} if self.passed_over is None else {"passed_over": self.passed_over}
        return {**place, **seq, **passed_over, "event": self.name, "values": self.values}


def lines(record: Record) -> Iterator[Line]:
    """Every fact that the record holds; at least one line, whatever its bytes are."""
    value = record.value
    # A record without a value deletes the one with its key from a compacted topic.
    if value is None:
        yield _make_line(record, "Tombstone", values={"key": _format_key(record)})
    # Bodies are compressed vectors, and a line of them would tell a person nothing.
    elif record.topic in _OPAQUE:
        yield _make_line(record, "Chunk", values={"key": _format_key(record), "bytes": len(value)})
    elif record.topic == PUBLISHED.name:
        yield _make_announcement_line(record, value)
    elif record.topic in _JOURNALS:
        yield from _read_journal_record(record, value)
    else:
        for message in unpack(record):
            yield _make_plain_line(message, message.value or b"")


def _make_line(record: Record, name: str, *, values: dict[str, Any], **more: Any) -> Line:
    place: dict[str, Any] = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
    # Only where a record holds many: the first of them is known by its place, as one that stands alone.
    place |= {"message": record.message} if record.message else {}
    return Line(**{"time_ms": record.time_ms, **place, "name": name, "values": values, **more})


def _make_unreadable_line(record: Record, why: str) -> Line:
    value = record.value or b""
    return _make_line(record, "Unreadable", values={"why": why, "size": len(value), "begins": value[:HEX_SHOWN].hex()})


def _read_journal_record(record: Record, value: bytes) -> Iterator[Line]:
    try:
        content: Any = open_record(value)
    except MalformedError as error:
        yield _make_unreadable_line(record, str(error))
        return
    match content:
        case WriterClaimed():
            yield _make_line(record, "WriterClaimed", values=_list_fields(content))
        # A batch without decisions only moves the position; hiding it would look like a gap in seq.
        case Batch(seq=seq, decisions=()):
            yield _make_line(record, "PositionMoved", values=dict(content.position.offsets), seq=seq)
        case Batch(seq=seq):
            for decision in content.decisions:
                for event in decision.events:
                    described = _describe_event(event)
                    yield _make_line(
                        record,
                        described.name,
                        values=described.values,
                        seq=seq,
                        task=described.task,
                        time_ms=decision.time_ms,
                    )


@dataclass(frozen=True, slots=True)
class _Description:
    name: str
    task: TaskId | None
    values: dict[str, Any]


def _describe_event(event: Any) -> _Description:
    """A fact's name, task and fields; a Noticed shows the fact that was noticed."""
    fact = getattr(event, "fact", None)
    if fact is not None:
        return _Description(f"Noticed {type(fact).__name__}", find_task_of(fact), _list_fields(fact))
    return _Description(type(event).__name__, find_task_of(event), _list_fields(event))


def _list_fields(fact: Any) -> dict[str, Any]:
    return {name: value for name, value in to_plain(fact).items() if name != "type"}


def _make_plain_line(record: Record, value: bytes) -> Line:
    """A plain record: a fact as it is, or one that somebody signed; who that was is not looked at."""
    signed = False
    for parse in (parse_signed, parse_certified):
        # Ticks and partial results carry no signature; which it is shows only in the bytes.
        with suppress(MalformedError):
            value = parse(value).payload
            signed = True
            break
    try:
        fact: Any = decode(value, AnyEvent | Partial)  # type: ignore[arg-type]
    except MalformedError as error:
        return _make_unreadable_line(record, f"{'signed, but ' if signed else ''}{error}")
    described = _describe_event(fact)
    # An update names its device and task only in the lease that it carries.
    lease = _lease(getattr(fact, "sealed", None))
    values = {**described.values, **({"lease": lease["lease"], "device": lease["device"]} if lease else {})}
    return _make_line(record, described.name, values=values, task=described.task or (lease or {}).get("task"))


def _lease(sealed: bytes | None) -> dict[str, Any] | None:
    """What a lease claims; its signature is not checked here."""
    if sealed is None:
        return None
    try:
        return dict(to_plain(read_lease(sealed)))
    except MalformedError:
        return None


def _make_announcement_line(record: Record, value: bytes) -> Line:
    try:
        event = json.loads(value)
        line = _make_line(record, str(event["type"]), values=event, task=str(event["id"]).partition("/")[0])
        # Both forms are tried here: JSON has strings that no terminal takes, and may be nested too deeply to be shown.
        line.text().encode()
        json.dumps(line.plain(), ensure_ascii=False).encode()
        return line
    # Others may write to this topic; JSON nested deeply enough raises RecursionError.
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        return _make_unreadable_line(record, f"not a CloudEvent ({type(error).__name__})")


def _format_key(record: Record) -> str:
    return (record.key or b"").decode(errors="backslashreplace")


def format_value(value: Any, *, nested: bool = False) -> str:
    """Fields in one line: long hex is cut, long lists are counted, control characters are escaped."""
    match value:
        case dict():
            inside = " ".join(
                f"{_escape(name)}={format_value(item, nested=True)}" for name, item in value.items() if item is not None
            )
            return f"{{{inside}}}" if nested else inside
        case list():
            more = f" …{len(value)} in all" if len(value) > ITEMS_SHOWN else ""
            return "[" + " ".join(format_value(item, nested=True) for item in value[:ITEMS_SHOWN]) + more + "]"
        case str():
            # The first digits tell digests apart; all of them would fill the line.
            return _escape(f"{value[:HEX_SHOWN]}…" if _is_long_hex(value) else value)
        case float():
            return f"{value:.6g}"
    return str(value)


def _escape(text: str) -> str:
    """What a device or a stranger wrote, unable to move the cursor of the person who reads it."""
    return text if text.isprintable() else text.encode("unicode_escape").decode()


def _is_long_hex(text: str) -> bool:
    return len(text) >= 32 and all(character in "0123456789abcdef" for character in text)
