"""Measures what each kind of hostile record costs, in bytes; adds a row for each to docs/results/floods.jsonl.

python -m tests.trials.floods
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from dataclasses import dataclass

from actors.hosts.inbox import RECORDS_MAX
from actors.wiring import ROLES
from schemas.topics import ANSWERS, JOURNALS
from streams.log import TopicPartition, scan
from tests.trials.floods.attacker import DEFECTS, RULES, Attacker, Flood, plant_defects
from tests.trials.results import add_row
from tests.worlds.federation import Federation

KIND = "floods"
ALONE = 20
# Kinds that an event which is merged only with the one before it would not have kept small.
BY_TURNS = {
    "junk and new names by turns": ("junk in checkins", "check-ins for a new name each"),
    "junk, copies and late updates by turns": ("junk in updates", "copies of an update", "updates after the deadline"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Bytes of one hostile record, and what it adds to journals and to answers, on average."""

    sent: float
    journals: float
    answers: float


def measure(
    names: tuple[str, ...], *, count: int, together: int, prepare: Callable[[Federation], None] | None = None
) -> Cost:
    """The cost of `count` records of these kinds by turns, of which the actors meet `together` in one run."""
    world = Federation(RULES)
    floods = Attacker(world, random.Random(1)).floods()
    if prepare is not None:
        prepare(world)
    before, sent = (_size(world, *(topic.name for topic in JOURNALS)), _size(world, ANSWERS.name)), 0
    for number in range(count):
        flood: Flood = floods[names[number % len(names)]]
        value = flood.make()
        sent += len(value)
        world.append(flood.topic, value)
        if (number + 1) % together == 0 or number + 1 == count:
            for name in ROLES:
                world.feed(name, most=together)
    after = _size(world, *(topic.name for topic in JOURNALS)), _size(world, ANSWERS.name)
    journals, answers = (new - old for new, old in zip(after, before, strict=True))
    # What a stranger writes into a journal is not what the journal's writer adds to it.
    journals -= sent if floods[names[0]].topic in {topic.name for topic in JOURNALS} else 0
    return Cost(sent=sent / count, journals=journals / count, answers=answers / count)


def _size(world: Federation, *topics: str) -> int:
    places = [TopicPartition(topic, partition) for topic in topics for partition in range(world.log.partitions)]
    return sum(len(record.value or b"") for at in places for record in scan(world.log, at))


def main() -> None:
    """Every kind in one full run of a host, and alone in runs of its own."""
    floods = Attacker(Federation(RULES), random.Random(0)).floods()
    cases = {name: (name,) for name in floods} | BY_TURNS
    cases |= {case: (name,) for case, name in DEFECTS.items()}
    for case, names in cases.items():
        prepare = plant_defects if case in DEFECTS else None
        full = measure(names, count=RECORDS_MAX, together=RECORDS_MAX, prepare=prepare)
        alone = measure(names, count=ALONE, together=1, prepare=prepare)
        row = {
            "case": case,
            "records": RECORDS_MAX + ALONE,
            "sent_bytes": round(full.sent),
            "journal_bytes": round(full.journals, 2),
            "journal_bytes_alone": round(alone.journals),
            "answer_bytes": round(full.answers),
            "readers": max(sum(floods[name].topic in role.inputs for role in ROLES.values()) for name in names),
        }
        add_row(KIND, row)
        sys.stdout.write(f"{row}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
