"""What distances lead to: said once a version, with the version of its crossing, until it is over."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given as draw
from hypothesis import settings
from hypothesis import strategies as st
from msgspec import UNSET

from actors.deciders.aggregator_state import Rounds
from actors.deciders.drifting.judging import Distance
from schemas.events import DriftEnded, DriftFound, Reference
from schemas.policy import Policy
from schemas.published import is_announced
from tests.worlds.builders import TASK, body_ref
from tests.worlds.drift.asking import distance, drift_found, drift_policy
from tests.worlds.rounds import fill, given, release_stored
from tests.worlds.specification import Situation

BEYOND, WITHIN = distance(300_000), distance(100_000)


def play(situation: Situation[Rounds], *distances: Distance) -> list[Any]:
    """A whole round whose version has these distances; what is said of drift with it."""
    number = situation.state.tasks[TASK].version
    size = situation.state.tasks[TASK].created.policy.aggregation.updates_per_round
    fill(situation, [f"d{n}" for n in range(size)], version=number, number=number)  # type: ignore[arg-type]
    situation.when(replace(release_stored(number, number + 1), distances=distances))
    return [event for event in situation.caused if isinstance(event, DriftFound | DriftEnded)]


def ended(found: DriftFound, version: int, value: int) -> DriftEnded:
    """That it is so no more."""
    plain = {name: getattr(found, name) for name in found.__struct_fields__}
    return DriftEnded(**{**plain, "version": version, "value": value})


def watched(rules: Policy | None = None, **changes: Any) -> Situation[Rounds]:
    """A task with its first answer."""
    begun = given(rules or drift_policy(), **changes)
    assert play(begun) == []
    return begun


def test_a_crossing_is_told_with_its_version() -> None:
    """Found once it is beyond the bound, with that version as its beginning; ended once it is not."""
    situation = watched()
    assert play(situation, WITHIN) == []
    assert play(situation, BEYOND) == [first := drift_found(3)]
    assert play(situation, distance(400_000)) == [drift_found(4, 400_000, since=3)]
    assert play(situation, WITHIN) == [ended(first, 5, 100_000)]
    assert play(situation, WITHIN) == []
    assert play(situation, BEYOND) == [drift_found(7)]


def test_a_crossing_is_announced_once() -> None:
    """What goes on stands in the journal alone, however often a version is asked for."""
    situation = watched()
    told = [event for each in (BEYOND, BEYOND, BEYOND, WITHIN, BEYOND) for event in play(situation, each)]
    assert [(type(e), e.version) for e in told if is_announced(e)] == [
        (DriftFound, 2),
        (DriftEnded, 5),
        (DriftFound, 6),
    ]
    assert len(told) == 5


def test_what_stands_at_the_bound_is_beyond_it() -> None:
    """A policy's bound is the first distance that is drift, and chance the last one that is none."""
    situation = watched()
    assert play(situation, distance(199_999)) == []
    assert play(situation, distance(200_000, by_chance=200_000)) == []
    assert play(situation, distance(200_000, by_chance=199_999)) != []


def test_chance_ends_a_drift_as_a_bound_does() -> None:
    """With fewer devices the same distance may say nothing any more."""
    situation = watched()
    assert play(situation, BEYOND) == [drift_found(2)]
    assert play(situation, distance(300_000, by_chance=900_000)) == [
        msgspec.structs.replace(ended(drift_found(2), 3, 300_000), by_chance=900_000)
    ]


def test_what_could_not_be_compared_goes_on_standing() -> None:
    """A version in which nobody of a cohort answered says neither that it has drifted nor that it has not."""
    situation = watched()
    assert play(situation, BEYOND) == [drift_found(2)]
    assert play(situation) == []
    assert play(situation, BEYOND) == [drift_found(4, since=2)]


@pytest.mark.parametrize(
    ("table", "found"),
    [
        ({"psi_max": 0.4}, []),
        ({"psi_max": 0.0}, [("drift", "", "psi", 0)]),
        ({"skew_ks_max": 0.1}, [("drift", "", "psi", 200_000), ("skew", "lab", "ks", 100_000)]),
        ({"skew_psi_max": 0.1}, [("drift", "", "psi", 200_000), ("skew", "lab", "psi", 100_000)]),
    ],
)
def test_each_distance_has_its_bound(table: dict[str, float], found: list[tuple[str, str, str, int]]) -> None:
    """A skew without one is nothing."""
    situation = watched(drift_policy(cohorts=("lab", "home"), drift=table))
    skews = [distance(150_000, kind="skew", cohort="lab", measure=measure) for measure in ("psi", "ks")]
    told = play(situation, distance(300_000), distance(50_000, measure="ks"), *skews)
    assert [(e.kind, e.cohort, e.measure, e.bound) for e in told] == found
    assert all(e.reference_version == (2 if e.kind == "skew" else 1) for e in told)


def test_a_stored_reference_is_named() -> None:
    """Whoever reads of drift learns from whose answers."""
    reference = Reference(task="before", version=7, members=9, noise=0.0, model=body_ref("old", "models"))
    situation = watched(drift_policy(drift={"of": "before", "version": -1}), reference=reference)
    [found] = play(situation, BEYOND)
    assert (found.reference, found.reference_version) == ("before", 7)


def test_a_task_without_the_table_says_nothing() -> None:
    """And its state keeps the digest that it had before there was any."""
    situation = given(drift_policy().__class__(**{**_plain(drift_policy()), "drift": UNSET}))
    assert play(situation, BEYOND) == []
    assert situation.state.tasks[TASK].drifts is UNSET


def _plain(rules: Policy) -> dict[str, Any]:
    return {name: getattr(rules, name) for name in rules.__struct_fields__}


def test_the_reference_is_kept_for_as_long_as_the_task() -> None:
    """Its model leaves the window, and is not outdated with the others."""
    situation = watched(drift_policy(retention={"models_kept": 2}))
    outdated = []
    for _ in range(4):
        play(situation, WITHIN)
        outdated += [ref.sha256 for ref in situation.state.tasks[TASK].list_outdated()]
    drifts = situation.state.tasks[TASK].drifts
    assert drifts is not UNSET
    assert drifts.reference is not None
    assert drifts.reference.version == 1
    assert drifts.reference.model.sha256 not in outdated
    assert len(outdated) == 3


@settings(max_examples=25)
@draw(st.lists(st.integers(0, 400_000), min_size=1, max_size=8))
def test_found_and_ended_follow_each_other(values: list[int]) -> None:
    """Of any story: each version beyond is found, its beginning is the last crossing, and no end comes without one."""
    situation, since = watched(drift_policy(stop={"versions_max": 99})), None
    for value in values:
        told = play(situation, distance(value))
        version = situation.state.tasks[TASK].version
        if value >= 200_000:
            since = version if since is None else since
            assert told == [drift_found(version, value, since=since)]
        elif since is not None:
            assert [(type(event), event.since) for event in told] == [(DriftEnded, since)]
            since = None
        else:
            assert told == []
