"""The tasks of a simulated world: where they live and by which policy, all drawn."""

from __future__ import annotations

import random
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import msgspec
import numpy as np
from msgspec.structs import replace

from schemas.events import TensorSpec
from schemas.policy import Aggregation, Drift, Policy, PolicyError, check_policy
from schemas.policy.metrics import list_noised_reports
from schemas.topics import TASKS
from streams.log import Draft
from streams.memory import MemoryLog
from tests.places import home_of
from tests.worlds.builders import MODEL, create_task, policy, written
from tests.worlds.identity.budgets import budget_set

SHAPES = ("buffered", "buffered", "private", "private", "fedasync", "synchronous")
IDLE_NEVER_S = 30 * 86_400.0
PARAMETERS = 6
# Of two bins, and the fewest devices whose answers can be further apart than chance has them.
ANSWERS = 6
STATISTICS = {
    "small": {"bound": 0.5, "shape": (2,)},
    "large": {"bound": 4096.0},
    "table": {"bound": 3.0, "shape": (1, 3)},
}


@dataclass(slots=True, kw_only=True)
class Task:
    """One task, its devices, and what the world knows of its rules."""

    name: str
    rules: Policy
    devices: list[str]
    # How many elements of its model are averaged and not stepped, as a batch normalisation's statistics are.
    averaged: int = 0
    # What the operator promises the devices of its population, before the task is there.
    budget: float | None = None
    partition: int = field(init=False)

    def __post_init__(self) -> None:
        self.partition = home_of(self.name)

    def create(self, log: MemoryLog) -> None:
        """Store the first model and say so, as `fedlog task create` does."""
        changes: dict[str, Any] = {}
        if self.budget is not None:
            told = written(budget_set(self.budget, population=self.name.partition(".")[0]))
            log.append([Draft(topic=TASKS.name, partition=self.partition, value=told)])
        if self.averaged:
            told = len(list_noised_reports(self.rules))
            trained = TensorSpec(name="weight", shape=(PARAMETERS - self.averaged - told,))
            reported = (TensorSpec(name="told", shape=(told,), role="reported"),) if told else ()
            changes["tensors"] = (trained, TensorSpec(name="mean", shape=(self.averaged,), role="averaged"), *reported)
        create_task(log, self.rules, task=self.name, model=np.zeros(PARAMETERS), **changes)


def drawn(chance: random.Random, *, later: bool = True) -> list[Task]:
    """One task, or two, in one partition or in two; `later`: with rules that came after seeds had been recorded."""
    first = _make_task("a", chance, devices=chance.randint(2, 5), later=later)
    if chance.random() < 0.75:
        return [first]
    together = chance.random() < 0.5
    name = next(n for n in map("b{}".format, count()) if (home_of(n) == first.partition) == together)
    return [first, _make_task(name, chance, devices=chance.randint(2, 3), later=later)]


def draw_sharing(seed: int, drawn: list[Task]) -> list[Task]:
    """Beside a private task, in some worlds, another on the same devices, under one budget for both or none."""
    chance = random.Random(f"population {seed}")
    first = drawn[0]
    if first.rules.privacy is None or chance.random() < 0.4:
        return []
    tried = (_make_task(f"{first.name}.again", chance, devices=len(first.devices), later=False) for _ in range(20))
    again = next(task for task in tried if task.rules.privacy is not None)
    again.devices = first.devices
    if chance.random() < 0.8:
        cost = max(1 / (2 * task.rules.privacy.noise_multiplier**2) for task in (first, again) if task.rules.privacy)
        # Before the first task, or between the two, when something may have been spent already.
        chance.choice((first, again)).budget = chance.choice((0.5, 2.0, 7.0, 40.0)) * cost
    return [again]


def _make_task(name: str, chance: random.Random, *, devices: int, later: bool) -> Task:
    rules = _rules(chance, devices, later=later)
    # Another generator, so that the worlds of recorded seeds decide what they did.
    other = random.Random(f"averaged {chance.getstate()[1][:2]}")
    averaged = 0 if rules.measure or other.random() < 0.6 else other.randint(1, PARAMETERS - 1)
    task = Task(name=name, rules=rules, devices=_name_devices(name, devices), averaged=averaged)
    if later and rules.measure is not None:
        _watch_answers(task, random.Random(f"drift {chance.getstate()[1][:2]}"))
    return task


def _name_devices(task: str, count: int) -> list[str]:
    return [f"{task[0]}-{number}" for number in range(count)]


def _watch_answers(task: Task, chance: random.Random) -> None:
    """A question whose answers are compared, in some worlds, of more devices: what two of them say may be chance."""
    if chance.random() < 0.4:
        return
    count = ANSWERS + chance.randint(2, 5)
    bounds = {"psi_max": chance.choice((0.0, 0.2, 1.0)), "ks_max": chance.choice((0.0, 0.1, 0.9))}
    with suppress(PolicyError):
        task.rules = check_policy(
            replace(
                task.rules,
                selection=replace(
                    task.rules.selection, devices_expected=count, concurrency=2 * count, participations_max=0
                ),
                aggregation=Aggregation(updates_per_round=ANSWERS),
                # Of one version they would else be answers to several, and so in both bins.
                staleness=replace(task.rules.staleness, max_versions=0),
                drift=Drift(statistic="small", version=chance.choice((1, 1, 2)), **bounds),
            )
        )
        task.devices = _name_devices(task.name, count)


def _rules(chance: random.Random, devices: int, *, later: bool) -> Policy:
    shape = chance.choice(SHAPES)
    size = 1 if shape == "fedasync" else chance.randint(min(2, devices), devices)
    older = 0 if shape == "synchronous" else chance.choice((1, 3, 8))
    sections: dict[str, Any] = {
        "selection": {
            "devices_expected": devices,
            "concurrency": chance.randint(size, 2 * devices),
            "lease_s": chance.choice((6.0, 20.0, 60.0)),
            "retry_after_s": chance.choice((0.3, 2.0)),
            "battery_min_percent": chance.choice((0, 40)),
            "require_charging": chance.random() < 0.2,
        },
        "aggregation": {"updates_per_round": size},
        "clipping": {"norm": 1.0},
        "compression": {
            "codec": chance.choice(("float32", "int8", "topk")),
            "topk_fraction": 0.5,
            "error_feedback": chance.random() < 0.7,
        },
        "staleness": {"rule": chance.choice(("constant", "polynomial", "threshold")), "max_versions": older},
        "optimizer": {"rule": chance.choice(("sgd", "momentum", "adam"))},
        "retention": {"body_hours": 1.0, "models_kept": older + chance.randint(2, 4), "milestone_every": 0},
        "stop": {
            "versions_max": chance.choice((3, 12, 1_000)),
            "idle_s": 120.0 if chance.random() < 0.1 else IDLE_NEVER_S,
        },
    }
    # Another generator, so that the worlds of recorded seeds stay what they were.
    asks = random.Random(f"query {chance.getstate()[1][:2]}")
    if later:
        _ask_more(sections, random.Random(f"rules {chance.getstate()[1][:2]}"), shape=shape, size=size)
    if is_question := shape in ("buffered", "private") and asks.random() < 0.25:
        _make_question(sections, asks)
    if shape == "private":
        _make_private(sections, chance, devices=devices, size=size)
    elif chance.random() < 0.3 and not is_question:
        sections["aggregation"] |= {"samples_max": 5, "normalisation": "weight"}
    elif later and shape != "private" and not is_question:
        _withstand(sections, random.Random(f"robust {chance.getstate()[1][:2]}"))
    if later and not is_question:
        _count_voices(sections, random.Random(f"voices {chance.getstate()[1][:2]}"))
    return check_policy(msgspec.convert(msgspec.to_builtins(policy(**sections)), Policy))


def _count_voices(sections: dict[str, Any], chance: random.Random) -> None:
    """Final scores by a quorum of evaluators, in some worlds; in a few a fall ends the task."""
    if chance.random() < 0.5:
        return
    quorum = chance.randint(1, 3)
    apart = {"disagreement_max": 0.2} if quorum > 1 and chance.random() < 0.5 else {}
    falls = {"drop_max": 0.3} if chance.random() < 0.3 else {}
    sections["evaluation"] = {**sections.get("evaluation", {}), "quorum": quorum, **apart, **falls}


def _ask_more(sections: dict[str, Any], chance: random.Random, *, shape: str, size: int) -> None:
    """Rules of selection, rounds that end by time, a cap, and a schedule of the server's rate, in some worlds."""
    selection, aggregation = sections["selection"], sections["aggregation"]
    sections["server_schedule"] = {"rule": chance.choice(("constant", "constant", "cosine", "exponential"))}
    if shape == "private":
        return
    if chance.random() < 0.3:
        aggregation |= {"round_s": chance.choice((5.0, 40.0)), "updates_min": chance.randint(1, size)}
    if chance.random() < 0.2:
        least = aggregation.get("updates_min", size) * sections["stop"]["versions_max"]
        selection["participations_max"] = -(-least // selection["devices_expected"])
    if shape == "synchronous" and chance.random() < 0.5:
        selection |= {"rule": "utility", "exploration": chance.choice((0.0, 0.3)), "fast_s": chance.choice((0.0, 2.0))}
        sections["evaluation"] = {"report": ["loss"]}


def _withstand(sections: dict[str, Any], chance: random.Random) -> None:
    """A robust rule, in some worlds whose rounds are large enough for one."""
    aggregation = sections["aggregation"]
    least = aggregation["updates_min"] if "round_s" in aggregation else aggregation["updates_per_round"]
    rules = ["median", "trimmed_mean", "centered_clipping", *(["krum", "multi_krum"] if least > 2 else [])]
    if chance.random() < 0.5:
        return
    aggregation["rule"] = chance.choice(rules)
    most = (least - 3 if "krum" in aggregation["rule"] else least - 1) // 2
    near = max(1, least - most - 2)
    sections["robust"] = {"attackers_max": most, "selected": chance.randint(1, near), "radius": 0.5, "iterations": 2}


def _make_question(sections: dict[str, Any], chance: random.Random) -> None:
    """A measurement; its answers are drawn as the deltas of other tasks are."""
    question = {"plugin": MODEL, "statistics": STATISTICS, "release": chance.choice(("mean", "sum"))}
    sections |= {"kind": "measure", "measure": question}
    sections["compression"] |= {"codec": chance.choice(("float32", "int8")), "error_feedback": False}
    sections["staleness"]["rule"] = "constant"
    del sections["optimizer"]
    sections.pop("server_schedule", None)


def _make_private(sections: dict[str, Any], chance: random.Random, *, devices: int, size: int) -> None:
    """A noise multiplier and a cap; as many versions as the cap may pay for, which faults make fewer."""
    noise, cap = chance.choice((1.0, 3.0)), chance.choice((2, 8, 60))
    sections["privacy"] = {"noise_multiplier": noise, "rho_max": (cap + 0.5) / (2 * noise**2)}
    sections["stop"]["versions_max"] = max(1, cap * devices // size)
