"""Members are compared beside their sum: the same sum, and scores that no order and no restart changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from msgspec import UNSET
from msgspec.structs import replace

from actors.deciders.arithmetic.sums import RunningSum
from actors.deciders.decider import digest
from actors.effects.aggregator.summation import choose_summation
from actors.effects.watching.watched import Sketches, WatchedTotal
from ops.audit.replay import Audit
from schemas.events import Declined, DeviceQuarantined, MembersCompared
from schemas.policy import Policy
from schemas.tensors import Quanta
from schemas.tensors.clipping import SCALE_ONE
from schemas.topics import ROUNDS, TASKS
from tests.worlds.builders import ANCHOR, device_id, lease_id, task_created, update_admitted, written
from tests.worlds.federation import Federation
from tests.worlds.quarantine.tasks import HONEST, PARAMETERS, SEED, draw_deltas, quarantine_lifted, watched_policy
from tests.worlds.sealing.federation import SealedFederation

RULES = ("mean", "median", "trimmed_mean", "krum", "multi_krum", "centered_clipping")
MEMBERS = {lease_id(name): update_admitted(name, update=lease_id(name)) for name in "abcdef"}


def draw_quanta(seed: int = 1) -> dict[str, Quanta]:
    """An update of each member, in grid units."""
    draw = np.random.default_rng(seed)
    return {update: Quanta.from_values(draw.integers(-99, 99, PARAMETERS).astype(np.int32)) for update in MEMBERS}


def rules_of(rule: str) -> Policy:
    """A task that compares its members, by each rule of aggregation."""
    robust = {} if rule == "mean" else {"robust": {"attackers_max": 1, "selected": 2}}
    return watched_policy(aggregation={"updates_per_round": 6, "rule": rule}, **robust)


@pytest.mark.parametrize("rule", RULES)
def test_what_is_watched_has_the_same_sum(rule: str) -> None:
    """A policy with quarantine publishes what it would publish without."""
    totals = []
    for rules in (rules_of(rule), replace(rules_of(rule), quarantine=UNSET)):
        running = choose_summation(task_created(rules, parameters=PARAMETERS)).start()
        for update, quanta in draw_quanta().items():
            running.add(quanta, update=update, weight=3, scale=SCALE_ONE)
        totals.append(running.total().tolist())
        assert isinstance(running, WatchedTotal) == (rules.quarantine is not UNSET)
    assert totals[0] == totals[1]


def test_the_order_of_arrival_changes_no_score() -> None:
    """Scores are of the set of members: the same bits whoever comes first."""
    created, found = task_created(watched_policy(), parameters=PARAMETERS), []
    for updates in ([*MEMBERS], [*MEMBERS][::-1]):
        sketches = Sketches(created, SEED)
        for update in updates:
            sketches.add(draw_quanta()[update], update=update, scale=SCALE_ONE)
        found.append(sketches.compare(MEMBERS[update] for update in updates))
    assert found[0] == found[1]
    assert [score.update for score in found[0].scores] == sorted(MEMBERS)


def test_each_total_has_a_seed_of_its_own() -> None:
    """Nobody who sends to a round knows under which seed it will be compared."""
    created = task_created(watched_policy(), parameters=PARAMETERS)
    seeds = {WatchedTotal(created, RunningSum(PARAMETERS)).sketches.seed for _ in range(3)}
    assert len(seeds) == 3


# --- in a federation --------------------------------------------------------------------------------------------------


def quarantined(world: Federation) -> list[str]:
    """Who was quarantined, in order."""
    return [event.device for event in world.events(ROUNDS.name, DeviceQuarantined)]


@pytest.mark.parametrize("rule", RULES)
def test_an_attacker_is_let_in_no_more_until_the_operator_says(rule: str) -> None:
    """Found by its updates alone under each rule; declined, refused, and after the order taken again; all replays."""
    world = Federation(rules_of(rule), parameters=PARAMETERS)
    for seed in range(2):
        world.round_of(draw_deltas(seed))
    assert quarantined(world) == [device_id("a")]
    world.device("a").check_in()
    world.settle()
    assert isinstance(answer := world.device("a").answers()[-1], Declined)
    assert (answer.reason, answer.retry_after_ms) == ("quarantined", 60_000)
    world.append(TASKS.name, written(quarantine_lifted(device_id("a"), 1)))
    world.settle()
    world.round_of(draw_deltas(2))
    assert Audit(world.log, world.partition, anchor=ANCHOR, full=True).run().verdict == "identical"
    compared = world.events(ROUNDS.name, MembersCompared)
    assert [[each.device for each in event.anomalies] for event in compared] == [[device_id("a")]] * 3
    # What it has sent before is forgotten with its quarantine.
    pasts = [each.past for event in compared for each in event.anomalies]
    assert [past is UNSET for past in pasts] == [True, False, True]
    assert 900 < (pasts[1] or 0) <= 1000


@pytest.mark.parametrize("dead", ["before", "after"])
def test_a_restart_compares_anew(dead: str) -> None:
    """Sketches are no state: a new process makes them again from the bodies, and finds the same devices."""
    world = Federation(watched_policy(rounds=1), parameters=PARAMETERS)
    deltas = draw_deltas(0)
    world.check_in(*deltas)
    for name in [*deltas][:-1]:
        world.submit(name, deltas[name])
    world.settle()
    if dead == "before":
        world.start("aggregator")
    world.submit([*deltas][-1], deltas[[*deltas][-1]])
    world.settle()
    states = {name: digest(world.actors[name].state) for name in ("aggregator", "selector")}
    assert quarantined(world) == [device_id("a")]
    for name, before in states.items():
        assert digest(world.start(name).state) == before


def test_a_sealed_task_tells_of_nobody_else(tmp_path: Path) -> None:
    """Inside the aggregator single updates are compared; its journal names those alone that stand apart."""
    world = SealedFederation(watched_policy(rounds=1, tier="sealed"), tmp_path, parameters=PARAMETERS)
    world.round_of(draw_deltas(0))
    [compared] = world.events(ROUNDS.name, MembersCompared)
    assert [each.device for each in compared.anomalies] == [device_id("a")]
    assert not any(device_id(name) in repr(compared) for name in HONEST)
