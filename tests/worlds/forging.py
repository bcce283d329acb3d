"""A forger with all rights on a log and the writers' keys: changes an event, and makes its chain anew."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec

from actors.keys import OperatorKey
from actors.wiring import ROLES
from schemas.events import JournalEvent
from schemas.journal import GENESIS, Batch, open_record
from streams.log import Draft, Record, TopicPartition, scan
from tests.worlds.federation import Federation
from tests.worlds.ops_journal import journalled


def forge_event(
    world: Federation, topic: str, kind: type[JournalEvent], *, change: Callable[[Any], JournalEvent]
) -> None:
    """Change the first event of a kind in a journal, and make the chain anew as its writer would have."""
    head, done = GENESIS, False
    for entry in world.log._partitions[TopicPartition(topic, world.partition)].entries:
        if entry.record is None:
            continue
        data = entry.record.value or b""
        record: Any = open_record(data)
        if not isinstance(record, Batch):
            parts = hashlib.sha256(head).digest() + hashlib.sha256(data).digest()
            head = hashlib.sha256(parts).digest()
            continue
        decisions = []
        for decision in record.decisions:
            events = []
            for event in decision.events:
                forged = not done and isinstance(event, kind)
                done = done or forged
                events.append(change(event) if forged else event)
            decisions.append(msgspec.structs.replace(decision, events=tuple(events)))
        data = journalled(
            msgspec.structs.replace(record, prev=head, decisions=tuple(decisions)),
            topic,
            world.partition,
            role=next(role.name for role in ROLES.values() if role.journal == topic),
        )
        entry.record = replace(entry.record, value=data)
        head = hashlib.sha256(data).digest()
    assert done


def copy_as_stranger(world: Federation, topic: str, offset: int) -> Record:
    """Write a journal's record once more, signed with the key of another operator's writer."""
    at = TopicPartition(topic, world.partition)
    [record] = [record for record in scan(world.log, at) if record.offset == offset]
    value = journalled(open_record(record.value or b""), *at, key=OperatorKey(bytes(32)))
    [copied] = world.log.append([Draft(**at._asdict(), value=value)])
    return replace(record, offset=copied, value=value)
