"""A forger with all rights on the log of a federation: changes an event, and makes its chain anew."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec

from schemas.canonical import decode, encode
from schemas.events import JournalEvent
from schemas.journal import GENESIS, Batch, JournalRecord
from streams.log import TopicPartition
from tests.worlds.federation import Federation


def forge_event(
    world: Federation, topic: str, kind: type[JournalEvent], *, change: Callable[[Any], JournalEvent]
) -> None:
    """Change the first event of a kind in a journal, and make the chain anew as its writer would have."""
    head, done = GENESIS, False
    for entry in world.log._partitions[TopicPartition(topic, world.partition)].entries:
        if entry.record is None:
            continue
        data = entry.record.value or b""
        record: Any = decode(data, JournalRecord)  # type: ignore[arg-type]
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
        data = encode(msgspec.structs.replace(record, prev=head, decisions=tuple(decisions)))
        entry.record = replace(entry.record, value=data)
        head = hashlib.sha256(data).digest()
    assert done
