"""Events that only count add up in any order, fold to nothing, and have no key that a stranger can choose."""

from __future__ import annotations

import random
from functools import reduce
from typing import get_args

import msgspec
import pytest

from actors.deciders.aggregator import make_decider
from actors.deciders.decider import digest
from actors.deciders.registrar import REGISTRAR
from actors.deciders.selector import SELECTOR
from actors.deciders.tallies import TALLY_BYTES_MAX, TALLY_KINDS, Tallies, Tally, add, key_of, split
from actors.runtime.guard import ERROR_CHARACTERS_MAX
from schemas.canonical import encode
from schemas.events import (
    CheckinsDeclined,
    CountedReason,
    DeclineReason,
    DefectFound,
    EnrolmentRefusal,
    EnrolmentsDeclined,
    InputsDropped,
    Noticed,
    RoundOpened,
    UpdatesDeclined,
)
from schemas.journal import Decision
from tests.worlds.builders import TASK, model_published, task_created
from tests.worlds.specification import given

DROPPED = InputsDropped(topic="updates", count=2, first_offset=4, last_offset=7)
DECLINED = CheckinsDeclined(task=TASK, counts={"no_slot": 3})
REPEATED = UpdatesDeclined(task=TASK, counts={"duplicate": 2})
TURNED_AWAY = EnrolmentsDeclined(population=TASK, counts={"quota": 2})
FAILED = DefectFound(topic="updates", count=2, first_offset=4, last_offset=6, number=0, error="ValueError at a.py:1")
OPENED = RoundOpened(task=TASK, round=0)


def _decision(*events: object, topic: str = "updates", offset: int = 7) -> Decision:
    return Decision(topic=topic, offset=offset, time_ms=offset * 10, events=events)  # type: ignore[arg-type]


def test_drops_of_one_topic_are_one_event() -> None:
    """The first and the last offset stay, the counts add up."""
    after = InputsDropped(topic="updates", count=1, first_offset=9, last_offset=9)
    assert add(DROPPED, after) == InputsDropped(topic="updates", count=3, first_offset=4, last_offset=9)


def test_declines_of_one_task_are_one_event() -> None:
    """They are counted by reason, so that a crowd that is turned away costs one event a record."""
    after = CheckinsDeclined(task=TASK, counts={"battery": 1, "no_slot": 2})
    assert add(DECLINED, after) == CheckinsDeclined(task=TASK, counts={"battery": 1, "no_slot": 5})


def test_repeats_of_one_task_are_one_event() -> None:
    """Copies of updates are counted by reason, whoever sends them and however many."""
    after = UpdatesDeclined(task=TASK, counts={"expired": 4, "duplicate": 1})
    assert add(REPEATED, after) == UpdatesDeclined(task=TASK, counts={"duplicate": 3, "expired": 4})


@pytest.mark.parametrize("seed", range(5))
def test_counts_add_up_alike_in_any_order(seed: int) -> None:
    """The bytes do not tell in which order the inputs came: the algebra is commutative and associative."""
    chance = random.Random(seed)
    for words, kind in ((get_args(DeclineReason), CheckinsDeclined), (get_args(CountedReason), UpdatesDeclined)):
        few = [kind(task=TASK, counts={chance.choice(words): chance.randrange(1, 9)}) for _ in range(9)]
        shuffled = chance.sample(few, len(few))
        left = reduce(add, few)
        right = reduce(lambda after, before: add(before, after), shuffled)
        assert encode(left) == encode(right)
    offsets = chance.sample(range(100), 9)
    drops: list[Tally] = [InputsDropped(topic="updates", count=1, first_offset=o, last_offset=o) for o in offsets]
    expected = InputsDropped(topic="updates", count=9, first_offset=min(offsets), last_offset=max(offsets))
    assert reduce(add, drops) == expected


def test_defects_of_one_kind_are_one_event() -> None:
    """What fails at one place of our code in one topic is counted, with the first and the last offset."""
    after = msgspec.structs.replace(FAILED, count=1, first_offset=9, last_offset=9)
    expected = msgspec.structs.replace(FAILED, count=3, last_offset=9)
    assert key_of(after) == key_of(FAILED)
    assert add(FAILED, after) == add(after, FAILED) == expected


def test_a_defect_in_a_journal_stands_alone() -> None:
    """What a reader loses of another actor's journal is known exactly, by record and number."""
    one = msgspec.structs.replace(FAILED, topic="rounds", count=1, last_offset=4)
    assert len({key_of(each) for each in (one, msgspec.structs.replace(one, number=1))}) == 2


def test_only_what_counts_the_same_is_added() -> None:
    """Another topic, another task, a task or none, another kind of event: each is counted apart."""
    apart = [
        DROPPED,
        InputsDropped(topic="checkins", count=1, first_offset=9, last_offset=9),
        DECLINED,
        CheckinsDeclined(task="other", counts={"no_slot": 1}),
        CheckinsDeclined(task=None, counts={"unknown_task": 1}),
        REPEATED,
        UpdatesDeclined(task=None, counts={"unknown_task": 1}),
        TURNED_AWAY,
        EnrolmentsDeclined(population=None, counts={"no_enrolment": 1}),
        FAILED,
        msgspec.structs.replace(FAILED, topic="checkins"),
        msgspec.structs.replace(FAILED, error="ValueError at a.py:2"),
    ]
    assert len({key_of(tally) for tally in apart}) == len(apart)
    with pytest.raises(TypeError):
        add(DROPPED, DECLINED)


def test_what_counts_folds_to_nothing() -> None:
    """Law 1: an event that may lose its place among the decisions must not change any state."""
    history = Noticed(fact=task_created()), Noticed(fact=model_published())
    for decider in (SELECTOR, make_decider(bytes(8))):
        state = given(decider, *history[:1]).state
        before = digest(state)
        for tally in (DROPPED, DECLINED, REPEATED, TURNED_AWAY, FAILED):
            decider.evolve(state, tally, 10**9)
        assert digest(state) == before
    before, state = digest(REGISTRAR.initial()), REGISTRAR.initial()
    REGISTRAR.evolve(state, TURNED_AWAY, 10**9)
    assert digest(state) == before
    assert {type(tally) for tally in (DROPPED, DECLINED, REPEATED, TURNED_AWAY, FAILED)} == TALLY_KINDS


def test_a_tally_stays_small() -> None:
    """Room in a record is reserved by the longest tally that there can be."""
    name, most = "t" * 63, 2**63
    longest = [
        CheckinsDeclined(task=name, counts=dict.fromkeys(get_args(DeclineReason), most)),
        UpdatesDeclined(task=name, counts=dict.fromkeys(get_args(CountedReason), most)),
        EnrolmentsDeclined(population=name, counts=dict.fromkeys(get_args(EnrolmentRefusal), most)),
        InputsDropped(topic=name, count=most, first_offset=most, last_offset=most),
        DefectFound(
            topic=name, count=most, first_offset=most, last_offset=most, number=most, error="x" * ERROR_CHARACTERS_MAX
        ),
    ]
    assert max(len(encode(tally)) for tally in longest) <= TALLY_BYTES_MAX


def test_a_decision_is_split_into_what_counts_and_what_is_decided() -> None:
    """What is decided keeps its order, and its place; what counts may stand in any decision."""
    mixed = _decision(DROPPED, OPENED, REPEATED)
    counted, rest = split(mixed)
    assert (counted.events, rest.events) == ((DROPPED, REPEATED), (OPENED,))
    assert (counted.offset, rest.offset) == (mixed.offset, mixed.offset)


def test_tallies_are_one_decision_a_topic() -> None:
    """It stands at the last of the inputs that it counts, with one event for each key, whatever came in between."""
    tallies = Tallies()
    drop = InputsDropped(topic="updates", count=1, first_offset=9, last_offset=9)
    for decision in (_decision(DROPPED), _decision(REPEATED, offset=8), _decision(drop, offset=9)):
        tallies.add(decision)
    assert tallies.count_new(_decision(drop, REPEATED)) == 0
    assert tallies.count_new(_decision(DECLINED, DECLINED, topic="checkins")) == 1
    tallies.add(_decision(DECLINED, topic="checkins", offset=3))
    [updates, checkins] = tallies.make_decisions()
    assert (updates.topic, updates.offset, updates.time_ms) == ("updates", 9, 90)
    assert updates.events == (add(DROPPED, drop), REPEATED)
    assert (checkins.topic, checkins.events) == ("checkins", (DECLINED,))
