"""What strangers and repeats cost a journal: a bounded number of bytes a record of it, in any order and number."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from actors.wiring import ROLES
from schemas.events import (
    CheckinsDeclined,
    DefectFound,
    EnrolmentsDeclined,
    InputsDropped,
    MasksRefused,
    UpdatesDeclined,
)
from schemas.masking.statements import HelperSaid, sign_said
from schemas.topics import JOURNALS, MASKS
from streams.log import TopicPartition, scan
from tests.judges.lawcheck import check_book
from tests.judges.logbook import read
from tests.trials.floods.attacker import DEFECTS, RULES, Attacker, plant_defects
from tests.worlds.builders import DEPLOYMENT, KEY
from tests.worlds.federation import Federation
from tests.worlds.masking.federation import MaskedFederation, masked_policy

# Of a journal record without decisions, position and heads included; and of what one kind of record adds to it.
RECORD_BYTES_MAX = 700
KIND_BYTES_MAX = 256
KINDS = sorted(Attacker(Federation(RULES), random.Random(0)).floods())


def _journal_bytes(world: Federation) -> tuple[int, int]:
    """Bytes and records of all journals."""
    places = [TopicPartition(topic.name, world.partition) for topic in JOURNALS]
    sizes = [len(record.value or b"") for at in places for record in scan(world.log, at)]
    return sum(sizes), len(sizes)


def _flooded(kinds: list[str], seed: int) -> tuple[Federation, Attacker, int, int]:
    """A world in which each actor meets all of these in one run; how many bytes and records its journals grew."""
    world = Federation(RULES)
    attacker = Attacker(world, random.Random(seed))
    floods = attacker.floods()
    for kind in kinds:
        world.append(floods[kind].topic, floods[kind].make())
    size, records = _journal_bytes(world)
    for name in ROLES:
        # And what another actor has just said, which comes first where both are read.
        world.feed(name, most=len(kinds) + len(ROLES))
    grown, written = _journal_bytes(world)
    return world, attacker, grown - size, written - records


@settings(max_examples=30)
@given(st.lists(st.sampled_from(KINDS), min_size=1, max_size=200), st.integers(0, 2**32))
def test_any_mixture_costs_a_bounded_number_of_bytes(kinds: list[str], seed: int) -> None:
    """Law 9: what a run of hostile records costs follows from how many kinds there are, whatever they name."""
    world, attacker, grown, written = _flooded(kinds, seed)
    assert grown <= written * RECORD_BYTES_MAX + len(set(kinds)) * KIND_BYTES_MAX
    assert written <= len(ROLES)
    book = read(world.log, world.partition, operator=KEY.public_key, deployment=DEPLOYMENT)
    book.sealed.update(attacker.sealed)
    assert check_book(world.log, book, settled=True) == []
    assert [actor.guard.defects for actor in world.actors.values()] == [0] * len(world.actors)


@pytest.mark.parametrize("kind", KINDS)
def test_a_thousand_cost_what_one_costs(kind: str) -> None:
    """Law 9: beside a wider number, a kind of record costs its journal the same however often it comes in one run."""
    one, many = (_flooded([kind] * count, 1)[2] for count in (1, 1_000))
    assert many - one <= 64


@pytest.mark.parametrize("count", [1, 1_000])
def test_what_helpers_repeat_and_invent_costs_nothing(tmp_path: Path, count: int) -> None:
    """Law 9 for who holds a helper's key: copies of its words, and words about rounds that nobody proposed.

    Whoever copies a helper's words does not make its folder an old one either.
    """
    world = MaskedFederation(masked_policy(tmp_path), tmp_path)
    world.round_of(dict.fromkeys("abc", np.ones(4, np.float32)))
    words = [record.value or b"" for record in scan(world.log, TopicPartition(MASKS.name, world.partition))]
    size, _ = _journal_bytes(world)
    for number in range(count):
        for value in (words[number % len(words)], _invent(world, number)):
            world.append(MASKS.name, value)
    world.feed("aggregator", most=2 * count)
    assert _journal_bytes(world)[0] - size <= RECORD_BYTES_MAX
    world.start_helper(1)
    world.round_of(dict.fromkeys("abc", np.ones(4, np.float32)))
    assert not world.stores[1].is_behind


def _invent(world: MaskedFederation, number: int) -> bytes:
    """What helper 0 says of a round that is not there, with its own key: it is the one that lies."""
    proposal = number.to_bytes(32)
    invented = MasksRefused(task=world.task, helper=0, round=0, proposal=proposal, reason="root")
    said = HelperSaid(deployment=world.created.deployment, seq=number, prev=bytes(32), event=invented)
    return sign_said(said, world.stores[0].key)


@pytest.mark.parametrize("case", DEFECTS)
def test_a_thousand_defects_cost_what_one_costs(case: str) -> None:
    """Law 9: whoever finds a way to make our code fail fills neither journal nor log, and every failure is counted."""
    one = _fail(DEFECTS[case], 1)
    with capture_logs() as lines:
        many = _fail(DEFECTS[case], 1_000)
    assert many - one <= 64
    told = [line for line in lines if line["event"] == "defect"]
    assert [line.get("count") for line in told] == [None, 2, 4, 8, 16, 32, 64, 128, 256, 512]
    assert ["exc_info" in line for line in told] == [True] + [False] * 9


def _fail(kind: str, count: int) -> int:
    """How many bytes journals grow by so many defects, which the laws hold for."""
    world = Federation(RULES)
    attacker = Attacker(world, random.Random(3))
    flood = attacker.floods()[kind]
    plant_defects(world)
    size, _ = _journal_bytes(world)
    for _ in range(count):
        world.append(flood.topic, flood.make())
    for name in ROLES:
        world.feed(name, most=count)
    found = [event for topic in JOURNALS for event in world.events(topic.name, DefectFound)]
    assert [event.count for event in found] == [count]
    assert sum(actor.guard.defects for actor in world.actors.values()) == count
    book = read(world.log, world.partition, operator=KEY.public_key, deployment=DEPLOYMENT)
    book.sealed.update(attacker.sealed)
    assert check_book(world.log, book, settled=True, defects=True) == []
    return _journal_bytes(world)[0] - size


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_counted_as_what_it_is(kind: str) -> None:
    """The floods above are not all the same junk: each is counted in the way that it is told for, and exactly."""
    world = Federation(RULES)
    flood = Attacker(world, random.Random(2)).floods()[kind]
    before = _counted(world)
    for _ in range(7):
        world.append(flood.topic, flood.make())
    world.settle()
    # Each actor that reads the topic counts for itself.
    readers = sum(flood.topic in role.inputs for role in ROLES.values())
    expected = Counter({flood.counted: 7 * flood.messages * readers}) if flood.counted else Counter[str]()
    assert _counted(world) - before == expected


def _counted(world: Federation) -> Counter[str]:
    found: Counter[str] = Counter()
    for topic in JOURNALS:
        for event in world.events(topic.name, InputsDropped, CheckinsDeclined, UpdatesDeclined, EnrolmentsDeclined):
            found.update({"junk": event.count} if isinstance(event, InputsDropped) else event.counts)
    return found
