"""An operator lets a quarantined device in again: the one that is meant, and only one that is out."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.history.tables.explaining import list_devices
from ops.history.tables.standing.views import read_views
from ops.operator.errors import DeviceNotQuarantined, TaskUnknown
from ops.operator.quarantines.lifting import find_quarantined, lift
from ops.operator.tasks import find_view, summarize
from schemas.events import MembersCompared, Noticed, QuarantineLifted
from schemas.topics import ROUNDS
from tests.tables import synced
from tests.worlds.builders import KEY, TASK, device_id
from tests.worlds.federation import Federation
from tests.worlds.quarantine.tasks import PARAMETERS, device_quarantined, draw_deltas, watched_policy


def quarantining() -> Federation:
    """A task in which device a is quarantined after two rounds."""
    world = Federation(watched_policy(), parameters=PARAMETERS)
    for seed in range(2):
        world.round_of(draw_deltas(seed))
    return world


def test_an_order_lifts_the_quarantine_that_there_is() -> None:
    """By the first digits of the device; the aggregator takes note of it, and the device trains again."""
    world = quarantining()
    shown = summarize(find_view(world.log, TASK))
    assert shown["devices_quarantined"] == 1
    assert shown["quarantined"] == [{"device": device_id("a"), "subject": None, "rounds": [0, 1]}]
    held = lift(world.log, TASK, device=device_id("a")[:6], key=KEY)
    assert (held.device, held.rounds) == (device_id("a"), (0, 1))
    world.settle()
    [heard] = [e.fact for e in world.events(ROUNDS.name, Noticed) if isinstance(e.fact, QuarantineLifted)]
    assert (heard.device, heard.round) == (device_id("a"), 1)
    assert world.check_in("a")
    assert summarize(find_view(world.log, TASK))["devices_quarantined"] == 0


def test_who_is_not_out_cannot_be_let_in() -> None:
    """An honest device, or a second time: the message says who is out."""
    world = quarantining()
    with pytest.raises(DeviceNotQuarantined, match=f"there is {device_id('a')[:12]}"):
        lift(world.log, TASK, device=device_id("b"), key=KEY)
    lift(world.log, TASK, device=device_id("a"), key=KEY)
    with pytest.raises(DeviceNotQuarantined, match="there is nobody"):
        lift(world.log, TASK, device=device_id("a"), key=KEY)
    with pytest.raises(TaskUnknown):
        lift(world.log, "other", device=device_id("a"), key=KEY)


def test_digits_that_two_devices_begin_with_name_neither() -> None:
    """Nobody is let in by mistake; a subject is as good a name as a device."""
    known = [device_quarantined("abc", subject="7" * 32), device_quarantined("abd")]
    with pytest.raises(DeviceNotQuarantined, match="2 quarantined devices of 'digits' begin with 'ab'"):
        find_quarantined(known, TASK, device="ab")
    assert find_quarantined(known, TASK, device="77") is known[0]
    assert find_quarantined(known, TASK, device="abd") is known[1]
    with pytest.raises(DeviceNotQuarantined):
        find_quarantined(known[:1], TASK, device="")


def test_the_history_says_why_and_until_when(tmp_path: Path) -> None:
    """A row a quarantine with the figures of its last round, lifted or not, and one an update that stood apart."""
    world = quarantining()
    lift(world.log, TASK, device=device_id("a"), key=KEY)
    world.settle()
    for seed in range(2, 4):
        world.round_of(draw_deltas(seed))
    compared = world.events(ROUNDS.name, MembersCompared)
    with synced(tmp_path / "one.duckdb", world.log) as history:
        told = history.ask(
            "SELECT device, round_id, rounds, z, lifted_at IS NOT NULL, lifted_by FROM quarantines ORDER BY round_id"
        ).rows
        apart = history.ask("SELECT round_id, version, device, distance, norm, cosine, z, members FROM anomalies").rows
        parts = {part.title: part.to_json() for part in list_devices(history.ask, TASK)}
    scores = [event.anomalies[0] for event in compared]
    assert told == [
        (device_id("a"), 1, "[0,1]", scores[1].z / 1000, True, ""),
        (device_id("a"), 3, "[2,3]", scores[3].z / 1000, False, None),
    ]
    figures = [(s.distance / 1000, s.norm / 1000, s.cosine / 1000, s.z / 1000) for s in scores]
    assert sorted(apart) == [(n, n + 1, device_id("a"), *each, 6) for n, each in enumerate(figures)]
    assert scores[0].cosine < 0 < scores[0].norm <= 1000
    assert [row["round_id"] for row in parts["quarantined"]] == [3, 1]
    assert [(row["device"], row["rounds"]) for row in parts["stood apart"]] == [(device_id("a"), 4)]


def test_tables_say_who_is_out(tmp_path: Path) -> None:
    """The history has the same of each device as the fold: how often it stood apart, and since when it is out."""
    world = quarantining()
    asked = "SELECT device, apart, quarantined_at IS NOT NULL FROM devices WHERE apart > 0"
    with synced(tmp_path / "one.duckdb", world.log) as history:
        views = read_views(history.ask)
        assert history.ask(asked).rows == [(device_id("a"), 2, True)]
    assert views is not None
    assert views.tasks[TASK].quarantined == find_view(world.log, TASK).quarantined != {}
    lift(world.log, TASK, device=device_id("a"), key=KEY)
    world.settle()
    with synced(tmp_path / "two.duckdb", world.log) as history:
        views = read_views(history.ask)
        assert history.ask(asked).rows == [(device_id("a"), 2, False)]
    assert views is not None
    assert views.tasks[TASK].quarantined == {}
