"""What the registrar's journal says at this moment: folded anew for each question, by the registrar's own rules."""

from __future__ import annotations

from collections.abc import Iterator

from actors.deciders.registrar import REGISTRAR, Member, Registry
from schemas.certificates import Trust
from schemas.topics import REGISTRY, partition_of
from streams.journals import JournalReader
from streams.log import EventLog, TopicPartition, scan


def read_registry(log: EventLog, partition: int, *, trust: Trust) -> Registry:
    """Everything about the populations of one partition."""
    at, state = TopicPartition(REGISTRY.name, partition), REGISTRAR.initial()
    journal = JournalReader(at, trust=trust)
    for record in scan(log, at):
        batch = journal.follow(record)
        for decision in batch.decisions if batch is not None else ():
            for event in decision.events:
                REGISTRAR.evolve(state, event, decision.time_ms)
    return state


def read_home(log: EventLog, population: str, *, trust: Trust) -> Registry:
    """The same for the partition in which a population lives."""
    return read_registry(log, partition_of(population, log.partitions), trust=trust)


def list_members(log: EventLog, device: str, *, trust: Trust) -> Iterator[tuple[str, Member]]:
    """In which populations a device is enrolled, and as whom."""
    for partition in range(log.partitions):
        for name, population in read_registry(log, partition, trust=trust).populations.items():
            if device in population.members:
                yield name, population.members[device]
