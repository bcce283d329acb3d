"""The ways to change an exported log. Each draws one change, or None where what it drew would change nothing.

Left out is what no reader takes for history, and so nobody can miss: a zombie's batch, refused bodies, junk among the
inputs, append times of journal records (docs/decisions/0014-checkpoints.md has the list).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import msgspec

from actors.deciders.aggregator_state import MOMENTS_KEPT
from schemas.canonical import MalformedError, decode
from schemas.events import ModelPublished, SumStored, TaskCreated, UpdateAdmitted, UpdateSubmitted
from schemas.identifiers import BodyRef
from schemas.journal import Batch, Chain, open_record
from schemas.published import SIGNATURE, sign_statement
from schemas.signing import parse_signed
from schemas.topics import BODIES, JOURNALS, MODELS, PUBLISHED, TASKS, UPDATES
from streams.log import Record
from tests.trials.tamper.forgery import Forger, mutated
from tests.worlds.builders import writer_claimed
from tests.worlds.ops_journal import journalled
from tests.worlds.story import OTHER_KEY

JOURNAL_NAMES = tuple(topic.name for topic in JOURNALS)


@dataclass(frozen=True, slots=True)
class Change:
    """Topics with all their records after the change, and what was done."""

    what: str
    records: Mapping[str, Sequence[Record]]


@dataclass(slots=True)
class Original:
    """The honest records, by topic, and which of them anything rests on."""

    records: Mapping[str, list[Record]]
    chained: dict[str, list[int]] = field(default_factory=dict)  # indices of journal records that are no zombie's
    used: dict[str, list[int]] = field(default_factory=dict)  # indices of chunks and inline bodies of sums and versions
    kept: dict[str, list[int]] = field(default_factory=dict)  # those that the policy keeps: moments leave after a while

    def __post_init__(self) -> None:
        self.chained = {topic: [*_chained(self.records[topic])] for topic in JOURNAL_NAMES}
        used, left = _needed(self.records["rounds"])
        for topic in (BODIES.name, MODELS.name, UPDATES.name):
            offsets = [(topic, record.offset) for record in self.records[topic]]
            self.used[topic] = [i for i, place in enumerate(offsets) if place in used]
            self.kept[topic] = [i for i, place in enumerate(offsets) if place in used - left]

    def history(self, draw: Random) -> tuple[str, int]:
        """Some record of a journal, not a zombie's."""
        topic = draw.choice(JOURNAL_NAMES)
        return topic, draw.choice(self.chained[topic])

    def body(self, draw: Random, *topics: str) -> tuple[str, int]:
        """Some record whose bytes a version rests on."""
        topic = draw.choice(topics)
        return topic, draw.choice(self.used[topic])

    def changed(self, topic: str, what: str, edit: Callable[[list[Record]], object]) -> Change:
        """The change that `edit` makes in a list of all records of a topic."""
        records = [*self.records[topic]]
        edit(records)
        return Change(f"{topic}: {what}", {topic: records})

    def without(self, topic: str, begin: int, end: int) -> Change:
        """The change that drops the records from `begin` to before `end`."""
        records = self.records[topic]
        return Change(f"{topic}: records {begin} to {end} cut", {topic: [*records[:begin], *records[end:]]})

    def exchanged(self, topic: str, one: int, other: int) -> Change:
        """The change that puts the values of two records in each other's place."""
        records = [*self.records[topic]]
        _value(records, one, self.records[topic][other].value)
        _value(records, other, self.records[topic][one].value)
        return Change(f"{topic}: the values of records {one} and {other} exchanged", {topic: records})

    def is_free(self, topic: str, offset: int) -> bool:
        """Whether no record stands at this offset, because a transaction's marker does."""
        return all(record.offset != offset for record in self.records[topic])


def _chained(records: Sequence[Record]) -> Iterator[int]:
    chain = Chain(records[0].topic, records[0].partition)
    for index, record in enumerate(records):
        before = chain.zombies
        chain.follow(record.offset, record.value or b"")
        if chain.zombies == before:
            yield index


def _needed(rounds: Sequence[Record]) -> tuple[set[tuple[str, int]], set[tuple[str, int]]]:
    """Places of every chunk that sums and published vectors rest on, and of those that may have left by policy."""
    batches = [item for record in rounds if isinstance(item := _item(record), Batch)]
    events = [event for batch in batches for decision in batch.decisions for event in decision.events]
    summed = {(event.task, event.round) for event in events if isinstance(event, SumStored)}
    published = [event for event in events if isinstance(event, ModelPublished)]
    newest = {event.task: event.version for event in published}
    members = [event for event in events if isinstance(event, UpdateAdmitted) and (event.task, event.round) in summed]
    used = [member.body for member in members if member.zeroed is None] + [event.model for event in published]
    moments = [(event.moments, newest[event.task] - event.version) for event in published if event.moments]
    left = [ref for ref, age in moments if age >= MOMENTS_KEPT]
    return _places([*used, *(ref for ref, _ in moments)]), _places(left)


def _places(refs: Iterable[BodyRef]) -> set[tuple[str, int]]:
    return {(ref.topic, offset) for ref in refs for offset in ref.offsets}


def _value(records: list[Record], index: int, value: bytes | None) -> None:
    records[index] = replace(records[index], value=value)


def _flipped(value: bytes, draw: Random, *, within: range | None = None) -> bytes:
    at = draw.choice(within or range(len(value)))
    return value[:at] + bytes([value[at] ^ 1 << draw.randrange(8)]) + value[at + 1 :]


# --- one record -----------------------------------------------------------------------------------------------------


def flip(original: Original, draw: Random) -> Change | None:
    """One bit of a journal record, of an announcement, or of a task's creation."""
    topic = draw.choice([*JOURNAL_NAMES, *JOURNAL_NAMES, PUBLISHED.name, TASKS.name])
    if topic in JOURNAL_NAMES:
        index = draw.choice(original.chained[topic])
    else:
        index = draw.randrange(len(original.records[topic]))
    record = original.records[topic][index]
    if topic == TASKS.name and not _is(record, TaskCreated):
        return None
    value = _flipped(record.value or b"", draw)
    return original.changed(topic, f"a bit at offset {record.offset}", lambda records: _value(records, index, value))


def flip_body(original: Original, draw: Random) -> Change | None:
    """One bit of a chunk, or of the body inside an update."""
    topic, index = original.body(draw, BODIES.name, MODELS.name, UPDATES.name)
    record = original.records[topic][index]
    value = record.value or b""
    within = None
    if topic == UPDATES.name:
        inline = decode(parse_signed(value).payload, UpdateSubmitted).inline or b""
        within = range(value.index(inline), value.index(inline) + len(inline))
    flipped = _flipped(value, draw, within=within)
    return original.changed(topic, f"a bit at offset {record.offset}", lambda records: _value(records, index, flipped))


def swap_bodies(original: Original, draw: Random) -> Change | None:
    """One body stands where another should."""
    topic, index = original.body(draw, BODIES.name, MODELS.name)
    other = draw.choice(original.used[topic])
    if original.records[topic][index].value == original.records[topic][other].value:
        return None
    return original.exchanged(topic, index, other)


def drop(original: Original, draw: Random) -> Change | None:
    """A record is gone: of a journal, an announcement, a task's creation, or a chunk."""
    kind = draw.randrange(4)
    if kind == 0:
        topic = draw.choice([BODIES.name, MODELS.name, UPDATES.name])
        index = draw.choice(original.kept[topic])
    elif kind == 1:
        topic = draw.choice([PUBLISHED.name, TASKS.name])
        index = draw.randrange(len(original.records[topic]))
        if topic == TASKS.name and not _is(original.records[topic][index], TaskCreated):
            return None
    else:
        topic, index = original.history(draw)
    return original.changed(topic, f"record {index} dropped", lambda records: records.pop(index))


def double(original: Original, draw: Random) -> Change | None:
    """A record stands there twice."""
    topic, index = original.history(draw)
    if draw.random() < 0.2:
        topic = PUBLISHED.name
        index = draw.randrange(len(original.records[topic]))
    record = original.records[topic][index]
    if not original.is_free(topic, record.offset + 1):
        return None
    copy = replace(record, offset=record.offset + 1)
    return original.changed(topic, f"record {index} doubled", lambda records: records.insert(index + 1, copy))


def key(original: Original, draw: Random) -> Change | None:
    """A record has another key."""
    topic = draw.choice([*JOURNAL_NAMES, PUBLISHED.name])
    index = draw.randrange(len(original.records[topic]))
    other = draw.choice([b"", b"x", None, original.records[PUBLISHED.name][0].key])
    if other == original.records[topic][index].key:
        return None

    def edit(records: list[Record]) -> None:
        records[index] = replace(records[index], key=other)

    return original.changed(topic, f"record {index} has the key {other!r}", edit)


def offset(original: Original, draw: Random) -> Change | None:
    """A claim stands elsewhere; batches name their claim by its offset."""
    topic, index = original.history(draw)
    record = original.records[topic][index]
    batches = [item for i in original.chained[topic] if isinstance(item := _item(original.records[topic][i]), Batch)]
    if not original.is_free(topic, record.offset + 1) or all(batch.claim != record.offset for batch in batches):
        return None
    moved = replace(record, offset=record.offset + 1)

    def edit(records: list[Record]) -> None:
        records[index] = moved

    return original.changed(topic, f"claim {record.offset} moved by one", edit)


# --- several records ------------------------------------------------------------------------------------------------


def swap(original: Original, draw: Random) -> Change | None:
    """Two records of a journal have changed places."""
    topic, index = original.history(draw)
    other = draw.choice(original.chained[topic])
    if index == other:
        return None
    return original.exchanged(topic, index, other)


def move(original: Original, draw: Random) -> Change | None:
    """A record of a journal stands elsewhere, and those between have moved up."""
    topic, index = original.history(draw)
    to = draw.choice(original.chained[topic])
    values = [record.value for record in original.records[topic]]
    honest = [values[i] for i in original.chained[topic]]
    values.insert(to, values.pop(index))
    if [values[i] for i in original.chained[topic]] == honest:
        return None

    def edit(records: list[Record]) -> None:
        for at, value in enumerate(values):
            _value(records, at, value)

    return original.changed(topic, f"record {index} moved to {to}", edit)


def reverse(original: Original, draw: Random) -> Change | None:
    """A run of records comes in the opposite order, offsets and all: files as no exporter writes them."""
    topic, index = original.history(draw)
    end = index + draw.randint(2, 5)
    if end > len(original.records[topic]):
        return None

    def edit(records: list[Record]) -> None:
        records[index:end] = reversed(records[index:end])

    return original.changed(topic, f"records {index} to {end} in reverse", edit)


def cut(original: Original, draw: Random) -> Change | None:
    """A run of records is missing from the middle of a journal."""
    topic, index = original.history(draw)
    later = [i for i in original.chained[topic] if i > index]
    if not later:
        return None
    end = draw.choice(later)
    return original.without(topic, index, end)


def insert(original: Original, draw: Random) -> Change | None:
    """Something foreign stands in the middle of a journal: junk, a claim, a seal that nobody gave."""
    topic, index = original.history(draw)
    record = original.records[topic][index]
    if index == original.chained[topic][-1] or not original.is_free(topic, record.offset + 1):
        return None
    foreign = draw.choice(
        [
            draw.randbytes(draw.randint(0, 60)),
            journalled(writer_claimed(after=record.offset + 1), topic, record.partition, key=OTHER_KEY),
        ]
    )
    new = replace(record, offset=record.offset + 1, value=foreign)
    return original.changed(
        topic, f"foreign bytes at offset {new.offset}", lambda records: records.insert(index + 1, new)
    )


# --- found against a checkpoint -------------------------------------------------------------------------------------


def tail(original: Original, draw: Random) -> Change | None:
    """The newest records of one journal are gone."""
    topic, index = original.history(draw)
    return original.without(topic, index, len(original.records[topic]))


def set_back(original: Original, draw: Random) -> Change | None:
    """Every topic as it stood at an earlier moment, all in agreement."""
    topic, index = original.history(draw)
    since_ms = original.records[topic][index].time_ms
    kept = {name: [r for r in records if r.time_ms < since_ms] for name, records in original.records.items()}
    return Change(f"everything as it stood before {since_ms}", kept)


def fork(original: Original, draw: Random) -> Change | None:
    """From some batch on a journal goes on differently under the same claims, its chain made anew, and ends earlier."""
    topic, index = original.history(draw)
    forged = _forged(original, draw, topic=topic, index=index)
    if forged is None:
        return None
    end = draw.randint(index + 1, len(forged))
    return Change(f"{topic}: another history from record {index} to {end}", {topic: forged[:end]})


def rewrite(original: Original, draw: Random) -> Change | None:
    """One event of a journal is another, and its chain was made anew from there to the end."""
    topic, index = original.history(draw)
    forged = _forged(original, draw, topic=topic, index=index)
    return None if forged is None else Change(f"{topic}: an event in record {index} rewritten", {topic: forged})


def conspiracy(original: Original, draw: Random) -> Change | None:
    """The same with all journals made to agree, and every announcement signed anew with another key."""
    topic, index = original.history(draw)
    batch = _item(original.records[topic][index])
    other = mutated(batch, draw) if isinstance(batch, Batch) else None
    if other is None:
        return None
    chained = {name: {original.records[name][i].offset for i in original.chained[name]} for name in JOURNAL_NAMES}
    forger = Forger({name: original.records[name] for name in JOURNAL_NAMES}, chained)
    forger.edits[topic, original.records[topic][index].offset] = other
    records: dict[str, list[Record]] = forger.forged()
    records[PUBLISHED.name] = [_signed_anew(record, forger) for record in original.records[PUBLISHED.name]]
    return Change(f"{topic}: an event in record {index} rewritten, and all agree", records)


def _signed_anew(record: Record, forger: Forger) -> Record:
    event = json.loads(record.value or b"")
    event = {name: value for name, value in event.items() if name not in SIGNATURE}
    journal = event["data"]["journal"]
    journal["head"] = forger.head(journal["topic"], journal["seq"]).hex()
    return replace(record, value=sign_statement(event, OTHER_KEY.signing))


def _forged(original: Original, draw: Random, *, topic: str, index: int) -> list[Record] | None:
    batch = _item(original.records[topic][index])
    other = mutated(batch, draw) if isinstance(batch, Batch) else None
    if other is None:
        return None
    chained = {topic: {original.records[topic][i].offset for i in original.chained[topic]}}
    forger = Forger({topic: original.records[topic]}, chained)
    forger.edits[topic, original.records[topic][index].offset] = other
    return forger.forged()[topic]


def announce(original: Original, draw: Random) -> Change | None:
    """A version that never was is announced: unsigned, or signed with another key."""
    last = original.records[PUBLISHED.name][-1]
    event = {name: value for name, value in json.loads(last.value or b"").items() if name not in SIGNATURE}
    event["data"]["version"] += draw.randint(1, 9)
    event["id"] = f"{event['data']['task']}/{event['data']['version']}"
    plain = json.dumps(event, separators=(",", ":"), sort_keys=True).encode()
    value = draw.choice([plain, sign_statement(event, OTHER_KEY.signing)])
    new = replace(last, offset=last.offset + 2, value=value)
    return original.changed(PUBLISHED.name, "a version that never was", lambda records: records.append(new))


def _item(record: Record) -> Any:
    return open_record(record.value or b"")


def _is(record: Record, kind: type[msgspec.Struct]) -> bool:
    try:
        decode(record.value or b"", kind)
    except MalformedError:
        return False
    return True


MUTATIONS: dict[str, Callable[[Original, Random], Change | None]] = {
    mutation.__name__: mutation
    for mutation in (
        flip, flip_body, swap_bodies, drop, double, key, offset, swap, move, reverse, cut, insert,
        tail, set_back, fork, rewrite, conspiracy, announce,
    )
}  # fmt: skip
