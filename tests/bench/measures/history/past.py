"""Long histories: as the deciders make them, signed as tables want them, in folders or on a broker.

Words behind `python -m tests.bench.measures.history.past`:

tell FOLDER 100000 1000000      a folder for each number of decisions
create SETTINGS                 the topics, on a broker
carry SETTINGS FOLDER RATE      a story onto it, so many events a second; 0: at once
"""

from __future__ import annotations

import argparse
import heapq
import json
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from actors.runtime.effects import Arrival
from ops.history.projections import read_evaluation
from schemas.canonical import decode, encode
from schemas.certificates import Certified
from schemas.creations import parse_task_event
from schemas.events import UpdateSubmitted, VersionEvaluated
from schemas.journal import Batch, open_record
from schemas.leases import Lease, Marked, read_lease
from schemas.policy import Policy
from schemas.signing import Signed, parse_signed
from schemas.topics import CATALOGUE, EVALUATIONS, JOURNALS, TASKS, UPDATES
from streams.exported import ExportedLog
from streams.exported.writer import export
from streams.kafka.log import KafkaLog
from streams.kafka.settings import KafkaSettings
from streams.log import Draft, Record, TopicPartition, scan
from tests.bench.measures import replay
from tests.bench.measures.trusting import PARTITION, TASK, TrustingEffects, TrustingWorld
from tests.worlds.builders import (
    KEY,
    role_key,
    scored,
    trust,
    update_checked,
    update_submitted,
    written,
)

TOPICS = (TASKS.name, *(topic.name for topic in JOURNALS), EVALUATIONS.name, UPDATES.name)
TURN = 500  # devices that ask and send at once
BLANK = bytes(64)
CERTIFICATE = role_key("selector").signer.certificate


class SendingEffects(TrustingEffects):
    """Takes records as devices, operator and evaluator write them, and believes each."""

    def read(self, state: Any, record: Record) -> Arrival:
        """What the record says, as the real effects would hand it in."""
        value = record.value or b""
        match record.topic:
            case UPDATES.name:
                update = decode(parse_signed(value).payload, UpdateSubmitted)
                held = read_lease(update.sealed)
                return Arrival(
                    update_checked(under=held, append_ms=record.time_ms, body=update.body, clip_scale=60_000)
                )
            case TASKS.name:
                return Arrival(parse_task_event(record, KEY.public_key))
            case EVALUATIONS.name:
                return Arrival(read_evaluation(record, trust()))
            case _:
                return super().read(state, record)


class SendingWorld(TrustingWorld):
    """The same actors over the records that stand in a real log.

    Devices leave their signatures blank: no table rests on one, and a million take minutes to make.
    """

    effects = SendingEffects

    def __init__(self, rules: Policy, *, inputs_per_commit: int) -> None:
        self._inputs_per_commit = inputs_per_commit
        super().__init__(rules)

    @property
    def updates(self) -> int:
        """How many leases it has granted, each of which is used."""
        return int(self.actors["selector"].state.tasks[TASK].granted)

    def settle(self, batch: int = 0) -> None:
        """As many inputs a commit as this world was made with."""
        super().settle(batch or self._inputs_per_commit)

    def append(self, topic: str, facts: Iterable[Any]) -> None:
        """Facts, as their authors write them."""
        write = {TASKS.name: written, EVALUATIONS.name: scored, UPDATES.name: _send}.get(topic, encode)
        self.log.append([Draft(topic=topic, partition=PARTITION, value=write(fact)) for fact in facts])

    def train(self, numbers: Sequence[int]) -> None:
        """A turn, whose newest version is evaluated at its end."""
        super().train(numbers)
        version = self.actors["aggregator"].state.tasks[TASK].version
        metrics = {"accuracy": version / (version + 100)}
        told = VersionEvaluated(task=TASK, version=version, metrics=metrics, samples=1_000, cohort="")
        self.append(EVALUATIONS.name, [told])


def tell(folder: Path, counts: Sequence[int], *, inputs_per_commit: int = TURN) -> Iterator[dict[str, Any]]:
    """A story that goes on; each time it has about so many decisions it is written into a folder of that name."""
    world, turn = SendingWorld(replay.RULES, inputs_per_commit=inputs_per_commit), 0
    for count in counts:
        # An update is decided twice: when its lease is granted, and when it is admitted.
        while world.updates < count // 2:
            before = world.updates
            world.train(range(turn % 2 * TURN, (turn % 2 + 1) * TURN))
            turn += 1
            # Once nothing that devices send is taken, no more leases are granted, and it would go on for ever.
            assert world.updates > before, "no lease was granted"
        ends = {(at := TopicPartition(topic, PARTITION)): world.log.bounds(at).end for topic in TOPICS}
        export(world.log, ends, folder=folder / str(count))
        decisions = sum(1 for name in world.actors for _ in world.journal(name))
        yield {"folder": str(folder / str(count)), "decisions": decisions, "updates": world.updates}


def carry(folder: Path, log: KafkaLog, *, events_per_s: float | None = None) -> int:
    """Write the records of a folder onto a broker, at the offsets that they have; the number of events."""
    count, began_s = 0, time.monotonic()
    writers = {topic.name: log.writer(f"past.{topic.name}") for topic in JOURNALS}
    for topic, records in groupby(_merge(ExportedLog(folder)), key=lambda record: record.topic):
        # One append for many is quick; paced, each stands for an input of its own.
        while some := [*islice(records, 1_000 if events_per_s is None else 5)]:
            drafts = [Draft(topic=topic, partition=each.partition, key=each.key, value=each.value) for each in some]
            if topic in writers:
                offsets = [offset for draft in drafts for offset in writers[topic].commit([draft])]
            else:
                offsets = log.append(drafts)
            # A batch names the offset of its claim: the markers of transactions must lie where they lay.
            assert offsets == [record.offset for record in some], some[0].place
            count += sum(map(_count_events, some))
            if events_per_s is not None:
                time.sleep(max(0.0, began_s + count / events_per_s - time.monotonic()))
    return count


def _merge(log: ExportedLog) -> Iterator[Record]:
    """All records; those of one turn topic by topic."""
    parts = [scan(log, TopicPartition(topic, PARTITION)) for topic in TOPICS]
    return heapq.merge(*parts, key=lambda record: (record.time_ms, TOPICS.index(record.topic)))


def _count_events(record: Record) -> int:
    if record.topic not in {topic.name for topic in JOURNALS}:
        return 1
    content = open_record(record.value or b"")
    return sum(len(each.events) for each in content.decisions) if isinstance(content, Batch) else 1


def _send(update: Any) -> bytes:
    """The record of an update as its device writes it, with blank signatures."""
    held: Lease = update.lease
    sealed = encode(Marked(encode(Certified(encode(held), BLANK, CERTIFICATE)), b""))
    return encode(Signed(encode(update_submitted(sealed, update.body)), BLANK))


def main() -> None:
    """One of the three."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_subparsers(dest="what", required=True)
    telling, creating, carrying = (what.add_parser(name) for name in ("tell", "create", "carry"))
    telling.add_argument("folder", type=Path)
    telling.add_argument("decisions", type=int, nargs="+")
    telling.add_argument("--inputs-per-commit", type=int, default=TURN)
    for each in (creating, carrying):
        each.add_argument("settings", type=json.loads)
    carrying.add_argument("folder", type=Path)
    carrying.add_argument("events_per_s", type=float)
    asked = parser.parse_args()
    if asked.what == "tell":
        for told in tell(asked.folder, asked.decisions, inputs_per_commit=asked.inputs_per_commit):
            sys.stdout.write(json.dumps(told) + "\n")
        return
    with closing(KafkaLog(KafkaSettings(**asked.settings))) as log:
        if asked.what == "create":
            log.create_topics(CATALOGUE)
        else:
            carry(asked.folder, log, events_per_s=asked.events_per_s or None)


if __name__ == "__main__":
    main()
