"""Answers that move, in a whole federation: found from what is published alone, announced once, the same on replay."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from actors.deciders.decider import digest
from actors.effects.watching.drifting import Answers, list_distances
from ops.audit.replay import Audit
from ops.history.releasing.standing import read_standing
from schemas.announcements.reading import read_announcement
from schemas.certificates import Trust
from schemas.events import DriftEnded, DriftFound, Reference, RolledBack
from schemas.policy import Drift
from schemas.tensors import pack
from schemas.topics import MODELS, PUBLISHED, ROLLOUTS, ROUNDS
from streams.bodies import store
from streams.log import TopicPartition, scan
from tests.judges.lawcheck import check
from tests.worlds.builders import ANCHOR, DEPLOYMENT, KEY, create_task, task_created
from tests.worlds.drift.asking import COHORTS, DEVICES, all_in, ask, drift_policy, in_cohorts
from tests.worlds.federation import Federation, open_actor
from tests.worlds.releasing.asking import ASKED, Asked


def told(world: Federation) -> list[tuple[str, int, int, str, str, str]]:
    """What was said of drift, in order."""
    return [
        (type(event).__name__, event.version, event.since, event.kind, event.cohort, event.measure)
        for event in world.events(ROUNDS.name, DriftFound, DriftEnded)
    ]


def announced(world: Federation) -> list[dict[str, Any]]:
    """What subscribers hear of it."""
    records = scan(world.log, TopicPartition(PUBLISHED.name, world.partition))
    found = [json.loads(record.value or b"") for record in records]
    return [event for event in found if event["type"].startswith("io.fedlog.drift.")]


def moved() -> Federation:
    """Two versions alike, two that have moved, one that is back."""
    world = Federation(drift_policy(), parameters=4)
    for places in ((0, 0, 0, 1), (0, 0, 0, 1), (3,), (3,), (0, 0, 0, 1)):
        ask(world, all_in(*places))
    return world


def test_a_shift_is_found_and_ends() -> None:
    """Guarantee: PSI and KS cross with the version that moved, stand, and end with the one that is back."""
    world = moved()
    assert told(world) == [
        (kind, version, 3, "drift", "", measure)
        for kind, version in (("DriftFound", 3), ("DriftFound", 4), ("DriftEnded", 5))
        for measure in ("psi", "ks")
    ]
    found = world.events(ROUNDS.name, DriftFound)[1]
    assert (found.value, found.bound, found.reference, found.reference_version) == (1_000_000, 100_000, world.task, 1)
    assert Audit(world.log, world.partition, anchor=ANCHOR, full=True).run().verdict == "identical"
    assert check(world.log, world.partition, settled=True) == []


def test_each_crossing_is_announced_once() -> None:
    """Guarantee: in the transaction that publishes, believed by readers, and not again after any restart."""
    world = moved()
    said = announced(world)
    assert [(event["type"].split(".")[3], event["data"]["version"]) for event in said] == [
        *[("found", 3)] * 2,
        *[("ended", 5)] * 2,
    ]
    assert len({event["id"] for event in said}) == 4
    world.start("aggregator")
    world.settle()
    assert announced(world) == said
    records = [r for r in scan(world.log, TopicPartition(PUBLISHED.name, world.partition)) if b"drift.found" in r.value]  # type: ignore[operator]
    read = read_announcement(records[1].value or b"", Trust(KEY.public_key, DEPLOYMENT), partition=world.partition)
    assert read is not None
    assert (read.kind.name, read.data.measure, read.data.value, read.version) == ("driftfound", "ks", 1.0, None)  # type: ignore[union-attr]


@pytest.mark.parametrize("dead", range(4))
def test_a_restart_changes_no_word(dead: int) -> None:
    """Guarantee: whenever the aggregator dies, each crossing is journalled once, and the state is the same."""
    world = Federation(drift_policy(), parameters=4)
    for number, places in enumerate(((0,), (3,), (3,), (0,))):
        if number == dead:
            world.start("aggregator")
        ask(world, all_in(*places))
    measures = ("psi", "ks")
    assert told(world) == [
        (kind, version, 2, "drift", "", measure)
        for kind, version in (("DriftFound", 2), ("DriftFound", 3), ("DriftEnded", 4))
        for measure in measures
    ]
    assert digest(open_actor(world, "aggregator").state) == digest(world.actors["aggregator"].state)


def test_cohorts_drift_apart_from_each_other() -> None:
    """Guarantee: a cohort that moves is named; a skew between cohorts is found without any reference."""
    table = {"skew_ks_max": 0.2, "ks_max": 0.9, "psi_max": 99.0}
    world = Federation(drift_policy(cohorts=COHORTS, drift=table), parameters=10)
    ask(world, in_cohorts({"lab": (0, 1), "home": (0, 1)}))
    assert told(world) == []
    ask(world, in_cohorts({"lab": (0, 1), "home": (3,)}))
    assert told(world) == [
        ("DriftFound", 2, 2, "drift", "home", "ks"),
        ("DriftFound", 2, 2, "skew", "lab", "ks"),
        ("DriftFound", 2, 2, "skew", "home", "ks"),
    ]
    # Nobody of the cohort answers: nothing is known of it, and so nothing ends.
    ask(world, in_cohorts({"lab": (0, 1)}) * 2)
    assert [kind for kind, version, *_ in told(world) if version == 3] == []
    ask(world, in_cohorts({"lab": (0, 1), "home": (1, 0)}))
    assert [kind for kind, version, *_ in told(world) if version == 4] == ["DriftEnded"] * 3
    assert Audit(world.log, world.partition, anchor=ANCHOR, full=True).run().verdict == "identical"


def test_a_stored_reference_serves_from_the_first_version() -> None:
    """Guarantee: answers of another task, copied when this one was created, are what version 1 is compared with."""

    class Compared(Federation):
        """Its task is created beside a copy of the answers of another."""

        def create(self, model: Any) -> None:
            place = TopicPartition(MODELS.name, self.partition)
            vector = np.array([20, 0, 0, 0], np.float32)
            ref = store(self.log, place, data=pack(vector), upload_id="before", codec="float32")
            reference = Reference(task="before", version=7, members=20, noise=0.0, model=ref)
            create_task(self.log, self.rules, task=self.task, model=model, reference=reference)

    world = Compared(drift_policy(drift={"of": "before", "version": 7}), parameters=4)
    ask(world, all_in(0))
    ask(world, all_in(2))
    found = world.events(ROUNDS.name, DriftFound)
    assert [(event.version, event.reference, event.reference_version) for event in found] == [(2, "before", 7)] * 2
    assert Audit(world.log, world.partition, anchor=ANCHOR, full=True).run().verdict == "identical"


def test_a_reference_that_is_gone_stops_nobody() -> None:
    """Guarantee: versions go on without a word of drift, as nothing can be said."""
    world = Federation(drift_policy(), parameters=4)
    for _ in range(2):
        ask(world, all_in(0))
    reference = world.actors["aggregator"].state.tasks[world.task].drifts.reference
    world.log.delete_records(TopicPartition(MODELS.name, world.partition), reference.model.offsets[-1] + 1)
    world.start("aggregator")
    ask(world, all_in(3))
    assert world.actors["aggregator"].state.tasks[world.task].version == 3
    assert told(world) == []


def test_with_privacy_the_release_is_compared_with_its_noise() -> None:
    """Guarantee: among few devices under noise nothing is found, whatever moved, and the journal still replays."""
    rules = drift_policy(privacy={"noise_multiplier": 2.0, "rho_max": 50.0}, stop={"versions_max": 3})
    world = Federation(rules, parameters=4)
    for places in ((0,), (3,), (0,)):
        ask(world, all_in(*places))
    assert world.actors["aggregator"].state.tasks[world.task].version == 3
    assert told(world) == []
    assert Audit(world.log, world.partition, anchor=ANCHOR, full=True).run().verdict == "identical"


def test_means_are_compared_as_sums() -> None:
    """Guarantee: what a policy publishes of its answers changes no distance, and nothing of what is chance."""
    found = []
    for release, scale in (("mean", DEVICES), ("sum", 1)):
        created = task_created(drift_policy(measure={"release": release}), parameters=4)
        now, before = (
            Answers(vector=np.float32(row) / np.float32(scale), members=DEVICES, noise=Decimal(1))
            for row in ([2, 2, 4, 8], [8, 4, 4, 0])
        )
        found.append([*list_distances(created, Drift(), answers=now, reference=before)])
    assert found[0] == found[1]
    assert [(each.measure, each.value) for each in found[0]][1] == ("ks", 500_000)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_answers_that_have_overflowed_are_not_compared(value: float) -> None:
    """Guarantee: nothing is said of them, in either place."""
    created = task_created(drift_policy(), parameters=4)
    sound, broken = (
        Answers(vector=np.float32(row), members=4, noise=0)  # type: ignore[arg-type]
        for row in ([1, 2, 3, 4], [1, value, 3, 4])
    )
    assert [*list_distances(created, Drift(), answers=broken, reference=sound)] == []
    assert [*list_distances(created, Drift(), answers=sound, reference=broken)] == []


# --- beside a rollout ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dead", ["", "rollout", "aggregator"])
def test_a_canary_is_taken_back_while_data_have_moved(dead: str) -> None:
    """Guarantee: rolled back by the very event that the aggregator wrote; promotes once it is over; all replays."""
    world = Asked()
    first = world.promote()
    world.answer(0)
    second = world.publish()
    world.score(second, 0.9)
    if dead:
        world.start(dead)
    world.answer(3)
    [back] = world.events(ROLLOUTS.name, RolledBack)
    [_, found] = world.events(ROUNDS.name, DriftFound)
    assert (back.version, back.to, back.reason, back.drift) == (second, first, "drift", found)
    third = world.publish()
    world.score(third, 0.9)
    world.hold()
    assert world.rollout.state.tasks[world.task].candidate is None
    world.answer(0)
    for _ in range(2):
        world.hold()
    assert world.outcomes() == [("Promoted", first), ("RolledBack", second), ("Promoted", third)]
    assert digest(open_actor(world, "rollout").state) == digest(world.rollout.state)
    assert Audit(world.log, world.partition, anchor=ANCHOR, full=True).run().verdict == "identical"
    assert check(world.log, world.partition, settled=True) == []


def test_everybody_is_told_why_a_canary_is_gone() -> None:
    """Guarantee: the drift stands in what is announced of the rollback, and in what people read of it."""
    world = Asked()
    world.answer(0)
    version = world.publish()
    world.score(version, 0.9)
    world.answer(3)
    records = [record.value or b"" for record in scan(world.log, TopicPartition(PUBLISHED.name, world.partition))]
    [record] = [each for each in records if json.loads(each)["type"].endswith("rolledback.v1")]
    read = read_announcement(record, Trust(KEY.public_key, DEPLOYMENT), partition=world.partition)
    assert read is not None
    assert (read.data.reason, read.data.drift.task, read.data.drift.value) == ("drift", ASKED, 1.0)  # type: ignore[union-attr]
    told = read_standing(world.log, world.task, trust=Trust(KEY.public_key, DEPLOYMENT)).last_rollback
    assert told is not None
    assert f"drift by ks 1, version 2 of {ASKED}" in told.text
