"""What is remembered of devices that stood apart: their last rounds, and no more of them than there are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from actors.deciders.quarantining.watch import Suspect, Watch
from schemas.events import Anomaly, MembersCompared
from tests.worlds.builders import TASK, lease_id, update_admitted
from tests.worlds.quarantine.tasks import SEED, device_quarantined, quarantine_lifted

WINDOW = 4


def compared(round_id: int, apart: str) -> MembersCompared:
    """A round in which these devices stand apart."""
    found = tuple(Anomaly(update=lease_id(name), device=name, distance=0, norm=0, cosine=0, z=4_000) for name in apart)
    return MembersCompared(task=TASK, round=round_id, members=9, seed=SEED, anomalies=found)


@given(st.lists(st.booleans(), max_size=40))
def test_a_suspect_has_the_rounds_of_its_window(story: list[bool]) -> None:
    """Of the last rounds that it was in those in which it stood apart, and nothing of those before."""
    suspect = Suspect()
    for round_id, is_apart in enumerate(story):
        suspect.add(round_id, is_apart=is_apart, window=WINDOW)
    recent = [round_id for round_id in range(len(story)) if story[round_id]]
    assert suspect.rounds == [round_id for round_id in recent if round_id >= len(story) - WINDOW]
    assert suspect.apart.bit_count() == len(suspect.rounds)


def test_who_agrees_for_a_window_is_forgotten() -> None:
    """State is bounded by the devices that stood apart of late; of an honest one nothing is kept at all."""
    watch, both = Watch(), {name: update_admitted(name) for name in "ab"}
    watch.note_round(compared(0, "a"), both, window=WINDOW)
    assert watch.suspects["a"].last == both["a"]
    assert [*watch.suspects] == ["a"]
    for round_id in range(1, WINDOW):
        watch.note_round(compared(round_id, ""), both, window=WINDOW)
    assert watch.suspects["a"].rounds == [0]
    again = {"a": update_admitted("a", round=WINDOW)}
    watch.note_round(compared(WINDOW, "a"), again, window=WINDOW)
    assert watch.suspects["a"].last == again["a"]
    for round_id in range(WINDOW + 1, 2 * WINDOW):
        watch.note_round(compared(round_id, ""), both, window=WINDOW)
    watch.note_round(compared(2 * WINDOW, ""), both, window=WINDOW)
    assert watch.suspects == {}


def test_rounds_without_a_device_say_nothing_of_it() -> None:
    """The window is of rounds that the device was in: who stays away is not forgotten by that."""
    watch, both = Watch(), {name: update_admitted(name) for name in "ab"}
    watch.note_round(compared(0, "a"), both, window=WINDOW)
    for round_id in range(1, 3 * WINDOW):
        watch.note_round(compared(round_id, ""), {"b": both["b"]}, window=WINDOW)
    assert watch.suspects["a"].rounds == [0]


def test_a_word_lifts_the_quarantine_that_it_names() -> None:
    """A copy of an older word is about no quarantine that there is; once lifted, nothing of it is left."""
    watch = Watch()
    watch.note_round(compared(1, "a"), {"a": update_admitted("a")}, window=WINDOW)
    watch.quarantine(device_quarantined("a", (0, 1)))
    assert (watch.suspects, watch.quarantined) == ({}, {"a": 1})
    assert not watch.is_lifted_by(quarantine_lifted("a", 0))
    assert not watch.is_lifted_by(quarantine_lifted("b", 1))
    assert watch.is_lifted_by(quarantine_lifted("a", 1))
    watch.lift(quarantine_lifted("a", 1))
    assert watch == Watch()
    assert not watch.is_lifted_by(quarantine_lifted("a", 1))


def test_a_round_under_way_adds_nothing_to_a_quarantine() -> None:
    """What a quarantined device sent before is compared like the rest, and counts against it no more."""
    watch = Watch()
    watch.quarantine(device_quarantined("a", (0, 1)))
    watch.note_round(compared(2, "a"), ["a"], window=WINDOW)
    assert watch.suspects == {}
