"""Who is let in no more: after so many rounds of so many, by the scores of the round alone, until the operator says."""

from __future__ import annotations

import random
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given as draw
from hypothesis import strategies as st
from msgspec import UNSET

from actors.deciders.admission import UpdateChecked
from actors.deciders.aggregator_state import Rounds
from schemas.events import DeviceQuarantined, MembersCompared, Noticed, UpdateAdmitted
from tests.worlds.builders import TASK
from tests.worlds.quarantine.tasks import (
    HONEST,
    compared_release,
    device_quarantined,
    members_compared,
    quarantine_lifted,
    watched_policy,
)
from tests.worlds.rounds import fill, given, refusal_of, update_of
from tests.worlds.specification import Situation


def play(situation: Situation[Rounds], number: int, devices: str, apart: str = "") -> list[UpdateAdmitted]:
    """A whole round: these devices are in it, and these of them stand apart."""
    members = fill(situation, devices, version=number, number=number)
    situation.when(compared_release(number, members, apart))
    return members


def caused(situation: Situation[Rounds]) -> list[object]:
    """What the newest decision says of members."""
    return [event for event in situation.caused if isinstance(event, MembersCompared | DeviceQuarantined)]


def test_a_device_that_stands_apart_too_often_is_quarantined() -> None:
    """Two of its last three rounds: the first time is told, the second is enough; the evidence is in the event."""
    situation = given(watched_policy())
    first = play(situation, 0, "abcdef", apart="a")
    assert caused(situation) == [members_compared(0, first, "a")]
    play(situation, 1, "abcdef")
    third = play(situation, 2, "abcdef", apart="a")
    assert caused(situation) == [members_compared(2, third, "a"), device_quarantined("a", (0, 2))]


def test_one_that_stands_apart_now_and_then_is_not() -> None:
    """Once in three rounds, for ever: honest devices differ."""
    situation = given(watched_policy())
    for number in range(12):
        play(situation, number, "abcdef", apart="a" if number % 3 == 0 else "")
    assert "a" not in situation.state.tasks[TASK].watch.quarantined  # type: ignore[union-attr]


def test_a_policy_may_ask_for_the_story_alone() -> None:
    """`rounds = 0`: what stands apart is told, and nobody is quarantined for it."""
    situation = given(watched_policy(rounds=0))
    for number in range(4):
        members = play(situation, number, "abcdef", apart="a")
        assert caused(situation) == [members_compared(number, members, "a")]


def test_the_policys_bound_says_who_stands_apart() -> None:
    """A score of 5 is no anomaly where the policy asks for 5.001."""
    rules = watched_policy(quarantine={"rounds": 1, "window": 1, "z_min": 5.001})
    situation = given(rules)
    members = play(situation, 0, "abcdef", apart="a")
    assert caused(situation) == [members_compared(0, members)]


def test_nothing_more_of_a_quarantined_device_counts() -> None:
    """Its next update is refused, whoever else's is admitted; what it has in an open round stays."""
    situation = given(watched_policy(rounds=1))
    play(situation, 0, "abcdef", apart="a")
    assert refusal_of(situation, update_of("a", situation, version=1, number=1)) == "quarantined"
    fill(situation, HONEST, version=1, number=1)


def test_the_operator_lifts_a_quarantine_once() -> None:
    """The word is noticed, and the device takes part again; a copy of it does not lift the next quarantine."""
    situation, lifted = given(watched_policy(rounds=1)), quarantine_lifted("a", 0)
    play(situation, 0, "abcdef", apart="a")
    situation.when(quarantine_lifted("a", 7)).then_nothing()
    situation.when(quarantine_lifted("b", 0)).then_nothing()
    situation.when(lifted).then(Noticed(fact=lifted))
    situation.when(lifted).then_nothing()
    play(situation, 1, "abcdef", apart="a")
    situation.when(lifted).then_nothing()
    assert refusal_of(situation, update_of("a", situation, version=2, number=2)) == "quarantined"


def test_who_is_enrolled_is_quarantined_as_a_person() -> None:
    """Another key of the same subject is refused, too: or a second telephone would be a way back."""
    situation = given(watched_policy(rounds=1, identity="enrolled"))
    subjects = {name: f"{number:032x}" for number, name in enumerate("abcdef")}
    members = []
    for name, subject in subjects.items():
        held = update_of(name, situation)
        situation.when(_under(held, subject))
        members += [event for event in situation.caused if isinstance(event, UpdateAdmitted)]
    situation.when(compared_release(0, members, "a"))
    assert caused(situation)[1:] == [device_quarantined("a", (0,), subject=subjects["a"])]
    other = _under(update_of("z", situation, version=1, number=1), subjects["a"])
    assert refusal_of(situation, other) == "quarantined"


def _under(update: UpdateChecked, subject: str) -> UpdateChecked:
    return replace(update, lease=msgspec.structs.replace(update.lease, subject=subject))


def test_without_the_table_nothing_is_compared() -> None:
    """A task of before decides as it did, and its state has no word of it."""
    situation = given()
    members = fill(situation, "abc")
    situation.when(compared_release(0, members, "a"))
    assert caused(situation) == []
    assert situation.state.tasks[TASK].watch is UNSET


rounds_of = st.lists(st.sets(st.sampled_from("abcdefgh"), max_size=3), min_size=1, max_size=8)


@draw(story=rounds_of, seed=st.integers(0, 999), window=st.integers(1, 5), data=st.data())
def test_quarantine_follows_from_what_was_told(
    story: list[set[str]], seed: int, window: int, data: st.DataObject
) -> None:
    """By brute force: who stood apart in `rounds` of the last `window` rounds that it was in, and nobody else."""
    wanted = data.draw(st.integers(1, window))
    situation, chance = given(watched_policy(rounds=wanted, window=window)), random.Random(seed)
    history: dict[str, list[tuple[int, bool]]] = {name: [] for name in "abcdefgh"}
    out: dict[str, tuple[int, ...]] = {}
    for number, apart in enumerate(story):
        left = [name for name in "abcdefgh" if name not in out]
        if len(left) < 6:
            return
        devices = "".join(chance.sample(left, 6))
        play(situation, number, devices, apart="".join(apart))
        for name in devices:
            history[name].append((number, name in apart))
            recent = tuple(each for each, is_apart in history[name][-window:] if is_apart)
            if len(recent) >= wanted and name in apart:
                out[name] = recent
        told = {event.device: event.rounds for event in caused(situation) if isinstance(event, DeviceQuarantined)}
        assert told == {name: rounds for name, rounds in out.items() if rounds[-1] == number}


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_arrival_changes_nothing(seed: int) -> None:
    """The same members in another order: the same anomalies, and the same devices are out."""
    found = []
    for order in ("abcdef", "".join(random.Random(seed).sample("abcdef", 6))):
        situation = given(watched_policy(rounds=1))
        members = sorted(fill(situation, order), key=lambda member: member.update)
        situation.when(compared_release(0, members, "be"))
        found.append(caused(situation))
    assert found[0] == found[1]
