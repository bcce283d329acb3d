"""An input that kills every worker that touches it: the crash loop is broken, and the task goes on."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from schemas.events import DefectFound, UpdateAdmitted
from schemas.policy import Policy
from schemas.tensors import encode_update
from schemas.topics import UPDATES
from streams.kafka.settings import KafkaSettings
from tests.judges.logbook import read
from tests.places import home_of
from tests.worlds.builders import device_id, policy
from tests.worlds.federation import ScriptedDevice
from tests.worlds.scripted_fleet import Fleet, Habits
from tests.worlds.stage import ACTORS, ROOT, say, staged

TASK = "task"
PARTITION = home_of(TASK)
PARAMETERS = 40

# Python runs a module of this name at its start: a stand-in for a library that dies of certain bytes.
DEADLY_LIBRARY = """
import ctypes
from schemas import tensors
honest = tensors.read_update
def read_update(body, *args, **named):
    if bytes.fromhex({poison!r}) == body:
        ctypes.string_at(0)
    return honest(body, *args, **named)
tensors.read_update = read_update
"""


def rules() -> Policy:
    """Private, so that the poison keeps its slot in the round."""
    return policy(
        selection={"devices_expected": 10, "concurrency": 10, "retry_after_s": 0.3, "lease_s": 120.0},
        privacy={"noise_multiplier": 100.0, "rho_max": 1.0},
        stop={"versions_max": 1_000},
    )


@pytest.mark.timeout(240)
def test_a_crash_loop_is_broken(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    """Law 9: an update that kills the aggregator without an exception does so three times; then it is zeroed."""
    poison = encode_update(np.full(PARAMETERS, 0.125, np.float32), rules())
    (tmp_path / "sitecustomize.py").write_text(DEADLY_LIBRARY.format(poison=poison.hex()))
    with staged(kafka_settings, tmp_path) as stage:
        stage.create_task(TASK, rules(), parameters=PARAMETERS)
        [aggregator] = stage.start("aggregator", source=f"{tmp_path}{os.pathsep}{ROOT}")
        stage.start(*(actor for actor in ACTORS if actor != "aggregator"))
        device = ScriptedDevice("poisoner", stage.log, task=TASK, deployment=stage.deployment)
        with Fleet(kafka_settings, TASK, rules(), PARAMETERS, 6, habits=Habits(rest_s=0.3)) as devices:
            stage.until_version(TASK, 1)
            device.check_in()
            stage.until(device.answers, "a lease for the poisoner", timeout_s=90)
            offset = device.submit_body(poison, codec="float32")
            stage.until(lambda: aggregator.starts >= 4, "three deaths", timeout_s=120)
            stage.until_version(TASK, stage.version(TASK) + 2, timeout_s=90)
            devices.rest(90)
        stage.until_lawful(PARTITION, defects=True)
        assert aggregator.starts == 4, stage.tails()
        rounds = read(stage.log, PARTITION).rounds
        [found] = rounds.events(DefectFound)
        assert (found.topic, found.first_offset) == (UPDATES.name, offset)
        assert found.error == "3 deaths in a row: killed by SIGSEGV"
        [admitted] = [event for event in rounds.events(UpdateAdmitted) if event.zeroed is not None]
        assert (admitted.device, admitted.zeroed) == (device_id("poisoner"), "defect")
        shown = stage.fedlog("events", "--topic", "rounds", "--partition", str(PARTITION), "--json")
        assert found.error in shown.stdout
        say(stage.report(PARTITION))
