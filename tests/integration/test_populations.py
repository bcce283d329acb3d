"""One budget over two tasks of a population, on a real broker, recounted by a reader of its own."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest
import structlog

from client_agent.identity import FILE
from client_agent.running.loop import read_clock_ms
from ops.operator import tasks
from streams.kafka.settings import KafkaSettings
from tests.judges.plain_reader import PlainLog
from tests.places import home_of
from tests.survey import opened_devices, training_policy
from tests.worlds.stage import ACTORS, Stage, staged

DEVICES = 2
# A participation costs 1/2 in the first task and 1/8 in the second: two and two of them are 5/4.
NOISE = {"rings.first": 1.0, "rings.second": 2.0}
RHO_MAX = 1.3
SLOTS = {"devices_expected": DEVICES, "concurrency": DEVICES, "retry_after_s": 0.3}


def train(stage: Stage, name: str) -> None:
    """Let the devices work on a task until it has nothing left for them."""
    operator = stage.key.public_key

    def is_halted() -> bool:
        loop.step(read_clock_ms(), 0.1)
        views = tasks.find_views(stage.log, [home_of("rings")], operator=operator)
        return name in views and views[name].halted is not None

    with opened_devices(
        stage.log, name, stage.folder, devices=DEVICES, clock_ms=read_clock_ms, operator=operator
    ) as loop:
        stage.until(is_halted, f"the end of {name}", timeout_s=120)


@pytest.mark.timeout(240)
def test_two_tasks_share_a_budget(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    """It is promised by a command, holds for each device over both, is shown, replayed, and counted from the log."""
    with staged(kafka_settings, tmp_path) as stage:
        stage.start(*ACTORS)
        promised = stage.fedlog("population", "budget", "rings", "--rho-max", f"{RHO_MAX}", "--wait-s", "60")
        assert promised.exit_code == 0, promised.stderr
        for name, noise in NOISE.items():
            rules = training_policy(
                selection=SLOTS,
                aggregation={"updates_per_round": DEVICES},
                stop={"versions_max": 4},
                privacy={"noise_multiplier": noise, "rho_max": 9.0},
            )
            stage.create_task(name, rules, parameters=6)
        # The command has written to a console that is closed now.
        structlog.reset_defaults()
        # The same devices, one task after the other: the second begins with what the first has left.
        first, second = NOISE
        train(stage, first)
        for index in range(DEVICES):
            place = stage.folder / f"{second}-{index}"
            place.mkdir()
            shutil.copy(stage.folder / f"{first}-{index}" / FILE, place / FILE)
        train(stage, second)
        raised = stage.fedlog("population", "budget", "rings", "--rho-max", "9")
        assert raised.exit_code != 0
        assert "never raised" in raised.stderr
        [listed] = json.loads(stage.fedlog("population", "list", "--json").stdout)
        stage.until_lawful(home_of("rings"))
        replayed = stage.fedlog("replay", "--full", "--json")
        assert replayed.exit_code == 0, replayed.stdout + replayed.stderr
        plain = PlainLog.read(stage.kafka.client(), stage.kafka.topic_prefix)
    spent: Counter[str] = Counter()
    for admitted in plain.of("UpdateAdmitted"):
        spent[admitted["device"]] += 1 / (2 * Fraction(NOISE[admitted["task"]]) ** 2)  # type: ignore[assignment]
    assert len(spent) == DEVICES
    # Nobody could take part once more in either task, and nobody has spent more than was promised.
    assert all(Fraction(RHO_MAX) - Fraction(1, 8) < each <= Fraction(RHO_MAX) for each in spent.values())
    most = float(max(spent.values()))
    assert (listed["population"], listed["rho_max"], listed["rho_spent"]) == ("rings", RHO_MAX, most)
    charged = [charge["population"]["rho_spent"] for charge in plain.of("RoundCharged")]
    assert charged == sorted(charged)
    assert charged[-1] == most
