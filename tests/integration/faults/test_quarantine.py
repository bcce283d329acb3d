"""Quarantine on a real broker: attackers are let in no more through kills, until the operator says; all replays."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import psutil
import pytest

from schemas.events import (
    CheckinsDeclined,
    DeviceQuarantined,
    LeaseGranted,
    MembersCompared,
    Noticed,
    QuarantineLifted,
    UpdateAdmitted,
)
from schemas.policy import Policy
from schemas.tensors import encode_update
from streams.kafka.settings import KafkaSettings
from tests.judges.logbook import Logbook, read
from tests.places import home_of
from tests.worlds.builders import device_id, policy
from tests.worlds.scripted_fleet import Fleet, Habits
from tests.worlds.stage import Stage, staged

PLAIN, SEALED = "watched", "watched-sealed"  # of two partitions
PARAMETERS, HONEST = 40, 7
# Numbered after the honest ones.
HOSTILE = (7, 8)


def rules(tier: str) -> Policy:
    """Rounds of six over nine devices; who stands apart in two of its last three is let in no more."""
    return policy(
        tier=tier,
        selection={"devices_expected": 10, "concurrency": 9, "retry_after_s": 0.1, "lease_s": 6.0},
        aggregation={"updates_per_round": 6},
        quarantine={"rounds": 2, "window": 3},
        stop={"versions_max": 5_000},
    )


def make_bodies(*, is_hostile: bool) -> tuple[bytes, ...]:
    """Updates with a common direction; hostile ones are turned round and three times as long."""
    draw, turn = np.random.default_rng(5), -3.0 if is_hostile else 1.0
    common = draw.normal(size=PARAMETERS) * 0.5
    own = [turn * (common + 0.15 * draw.normal(size=PARAMETERS)) for _ in range(8)]
    return tuple(encode_update(row.astype(np.float32), rules("plain")) for row in own)


def read_book(stage: Stage, task: str) -> Logbook:
    """What stands in the task's partition."""
    return read(stage.log, home_of(task), operator=stage.key.public_key, deployment=stage.deployment)


def list_out(stage: Stage, task: str) -> list[str]:
    """Who was quarantined, in order."""
    return [event.device for event in read_book(stage, task).rounds.events(DeviceQuarantined)]


def list_takers(stage: Stage, task: str) -> Iterator[str]:
    """Whose updates were admitted after the first word that lifted a quarantine."""
    is_lifted = False
    for event in read_book(stage, task).rounds.events(Noticed, UpdateAdmitted):
        is_lifted = is_lifted or (isinstance(event, Noticed) and isinstance(event.fact, QuarantineLifted))
        if isinstance(event, UpdateAdmitted) and is_lifted:
            yield event.device


def kill(stage: Stage, *actors: str) -> None:
    """Their processes die at once, wherever they are; supervisors start others."""
    for worker in stage.workers:
        child = worker.child() if worker.actor in actors else None
        with contextlib.suppress(psutil.NoSuchProcess):
            if child is not None:
                child.kill()


@pytest.mark.timeout(240)
def test_attackers_are_out_through_kills_until_the_operator_says(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    """Plain and sealed: found once, no lease after, nobody honest; lifted it counts again; the replay is identical."""
    with staged(kafka_settings, tmp_path) as stage, ExitStack() as playing:
        tasks = {PLAIN: rules("plain"), SEALED: rules("sealed")}
        created = {name: stage.create_task(name, each, parameters=PARAMETERS) for name, each in tasks.items()}
        stage.start("selector", "aggregator")
        fleets = [
            playing.enter_context(
                Fleet(
                    stage.kafka,
                    name,
                    each,
                    PARAMETERS,
                    len(HOSTILE) if is_hostile else HONEST,
                    habits=Habits(again=0.1, rest_s=0.1),
                    bodies=make_bodies(is_hostile=is_hostile),
                    created=created[name] if each.is_sealed else None,
                    first=HOSTILE[0] if is_hostile else 0,
                )
            )
            for name, each in tasks.items()
            for is_hostile in (False, True)
        ]
        stage.until(lambda: stage.version(*tasks) >= 1, "a first round of both", timeout_s=90.0)
        # With one round in which they stood apart in its memory, and the second on its way.
        kill(stage, "aggregator")
        hostile = {name: {device_id(f"{name}-{number}") for number in HOSTILE} for name in tasks}
        stage.until(lambda: all({*list_out(stage, name)} >= hostile[name] for name in tasks), "all", timeout_s=60.0)
        # Who is out now knows nobody but the journals.
        kill(stage, "selector")
        versions = stage.version(*tasks)
        stage.until(lambda: stage.version(*tasks) >= versions + 1, "rounds without them", timeout_s=60.0)
        for name in tasks:
            assert sorted(list_out(stage, name)) == sorted(hostile[name]), stage.tails()
        lifted = {name: min(hostile[name]) for name in tasks}
        for name, device in lifted.items():
            said = stage.fedlog("task", "lift", name, "--device", device[:12])
            assert (said.exit_code, device in said.stdout) == (0, True), said.output
        stage.until(
            lambda: all(lifted[name] in list_takers(stage, name) for name in tasks), "its update", timeout_s=60.0
        )
        for fleet in fleets:
            fleet.rest(60)
        stage.until_lawful(*map(home_of, tasks), sums=tmp_path / "epoch-keys")
        for name in tasks:
            check_story(read_book(stage, name), name, hostile=hostile[name], lifted=lifted[name])
        replayed = json.loads(stage.fedlog("replay", "--full", "--json").stdout)
        assert replayed["replay"].startswith("identical"), replayed


def check_story(book: Logbook, task: str, *, hostile: set[str], lifted: str) -> None:
    """What the log has to say of one task, whoever was killed meanwhile."""
    assert book.rounds.claims > 1
    assert {event.device for event in book.rounds.events(DeviceQuarantined)} == hostile
    assert {each.device for event in book.rounds.events(MembersCompared) for each in event.anomalies} == hostile
    declined = [event for event in book.selections.events(CheckinsDeclined) if event.task == task]
    assert sum(event.counts.get("quarantined", 0) for event in declined) > 0
    # Whoever was not lifted has had its last lease before the selector knew.
    ends = {
        event.fact.device: number
        for number, event in enumerate(book.selections.events(Noticed, LeaseGranted))
        if isinstance(event, Noticed) and isinstance(event.fact, DeviceQuarantined)
    }
    for number, event in enumerate(book.selections.events(Noticed, LeaseGranted)):
        if isinstance(event, LeaseGranted) and event.device in hostile - {lifted}:
            assert number < ends[event.device]
