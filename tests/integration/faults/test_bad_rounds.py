"""Every rule of aggregation on a real broker, with rounds that nobody wishes for: they end, and say the same again."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schemas.events import ModelPublished, UpdateAdmitted, UpdateRefused
from schemas.policy import Policy
from schemas.tensors import Floats, encode_update
from streams.kafka.settings import KafkaSettings
from tests.judges.logbook import read
from tests.places import home_of
from tests.worlds.builders import policy
from tests.worlds.scripted_fleet import Fleet, Habits
from tests.worlds.stage import Stage, staged

PARAMETERS, NORM, SHORT = 6, 2.0, 1.0
F, K = 1, 5
DEVICES = 6
ROBUST = ("median", "trimmed_mean", "krum", "multi_krum", "centered_clipping")
# `clip`: the mean, with so short a clip that every update is longer.
RULES = ("mean", "clip", *ROBUST)
# Of one update Krum's rules have no neighbour.
OF_ONE = ("mean", "clip", "median", "trimmed_mean", "centered_clipping")
SAME = np.full(PARAMETERS, 0.5, np.float32)
# NaN, infinity and what is off the grid are in no round; these two are, which no device has trained.
MALICIOUS = [np.full(PARAMETERS, value, np.float32) for value in (2 * SHORT, -2 * SHORT)]
BAD = [*(np.full(PARAMETERS, value, np.float32) for value in (np.nan, np.inf, 1e30)), *MALICIOUS]


def rules(rule: str, count: int) -> Policy:
    """A task by one rule, whose rounds have so many updates."""
    asked: dict[str, Any] = {} if rule in ("mean", "clip") else {"robust": {"attackers_max": F if count > 1 else 0}}
    if rule == "multi_krum":
        asked["robust"]["selected"] = 2
    return policy(
        aggregation={"updates_per_round": count, "rule": "mean" if rule == "clip" else rule},
        clipping={"norm": SHORT if rule == "clip" else NORM},
        selection={"devices_expected": DEVICES, "concurrency": DEVICES, "retry_after_s": 0.1, "lease_s": 6.0},
        stop={"versions_max": 5_000},
        **asked,
    )


TASKS = {f"{rule.replace('_', '-')}-{K}": rules(rule, K) for rule in RULES}
ALONE = {f"{rule.replace('_', '-')}-1": rules(rule, 1) for rule in OF_ONE}


def encode_all(vectors: Iterable[Floats]) -> tuple[bytes, ...]:
    """As devices send them; how depends on no rule."""
    return tuple(encode_update(vector, TASKS[f"mean-{K}"]) for vector in vectors)


@pytest.mark.timeout(240)
def test_no_rule_stops_at_what_it_gets(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    """Identical updates, then none but bad ones, and K of one: rounds end by every rule, and all is recomputed."""
    tasks = {**TASKS, **ALONE}
    with staged(kafka_settings, tmp_path) as stage:
        for name, each in tasks.items():
            stage.create_task(name, each, parameters=PARAMETERS)
        stage.start("selector", "aggregator")
        first, *others = tasks
        habits = Habits(rest_s=0.5, inline=1.0, at_once=True)
        fleet = Fleet(
            *(stage.kafka, first, tasks[first], PARAMETERS, DEVICES),
            habits=habits,
            bodies=encode_all([SAME]),
            others=tuple(others),
        )
        with fleet as devices:
            stage.until(lambda: stage.version(*tasks) >= 2, "rounds of identical updates", timeout_s=90.0)
            before = stage.version(*tasks)
            devices.bodies = encode_all(BAD)
            stage.until(lambda: stage.version(*tasks) >= before + 2, "rounds of bad updates", timeout_s=90.0)
            devices.rest(60)
        homes = {home_of(name) for name in tasks}
        stage.until_lawful(*homes)
        check_rounds(stage, tasks)
        replayed = json.loads(stage.fedlog("replay", "--full", "--json").stdout)
        assert replayed["replay"].startswith("identical"), replayed
        assert not replayed["unchecked"], replayed


def check_rounds(stage: Stage, tasks: dict[str, Policy]) -> None:
    """Of every task: its first rounds are of the same update alone, its last of malicious ones, and of nothing else."""
    found: dict[str, dict[type, list[Any]]] = defaultdict(lambda: defaultdict(list))
    for partition in {home_of(name) for name in tasks}:
        for event in read(stage.log, partition).rounds.events(UpdateAdmitted, UpdateRefused, ModelPublished):
            found[event.task][type(event)].append(event)
    same, *malicious = [hashlib.sha256(body).digest() for body in encode_all([SAME, *MALICIOUS])]
    for name in tasks:
        assert {"not_finite", "out_of_grid"} <= {event.reason for event in found[name][UpdateRefused]}, name
        bodies: dict[int | None, set[bytes]] = defaultdict(set)
        for event in found[name][UpdateAdmitted]:
            bodies[event.round].add(event.body.sha256)
        # Version 0 comes of no round.
        published = [bodies[event.round] for event in found[name][ModelPublished][1:]]
        assert {same} in published, name
        assert any(round_ <= {*malicious} for round_ in published), name
        assert set().union(*published) == {same, *malicious}, name
