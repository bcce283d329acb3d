"""What the log names does not run on a device, in a fleet or in an evaluator, until the machine's owner allows it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from schemas.events import TensorSpec
from schemas.policy import Policy
from streams.kafka.settings import KafkaSettings
from tests.worlds.builders import policy
from tests.worlds.stage import PLAIN_ACTORS, Stage, console_beside, staged

PARAMETERS = 6
TENSORS = (TensorSpec(name="weight", shape=(2, 2)), TensorSpec(name="bias", shape=(2,)))
MINE = """
import pathlib
pathlib.Path("imported").touch()
import numpy as np
from torch import nn

def net(hidden=0):
    return nn.Linear(2, 2)
"""
DATA = """
import numpy as np

def points(part):
    return np.eye(2, dtype=np.float32), np.arange(2)
"""


def rules(model: str, **arguments: str) -> Policy:
    return policy(
        model=model,
        model_arguments=arguments,
        selection={"devices_expected": 3, "concurrency": 3, "retry_after_s": 0.2},
        aggregation={"updates_per_round": 1},
    )


@contextmanager
def running(stage: Stage, *words: str) -> Iterator[Path]:
    """A command meanwhile; the file holds what it says."""
    said = stage.folder / f"{words[0]}.out"
    with console_beside([*words, *stage.options], log=said):
        yield said


@pytest.mark.timeout(300)
def test_code_from_the_log_runs_nowhere(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    """No device, fleet or evaluator runs a model that nobody allowed; each says what would allow it, and that works."""
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "points.py").write_text(DATA)
    with staged(kafka_settings, tmp_path) as stage:
        stage.create_task("system", rules("os:system", command="touch ran"), parameters=PARAMETERS)
        stage.create_task("mine", rules("mine:net"), parameters=PARAMETERS, tensors=TENSORS)
        stage.start(*PLAIN_ACTORS)
        data = ("--data", "points:points")
        device = ("device", *data, "--task", "mine", "--state", "phone")
        with (
            running(stage, *device) as phone,
            running(stage, "fleet", *data, "--task", "system", "--devices", "2", "--processes", "1") as fleet,
            running(stage, "evaluate", *data, "--task", "system", "--follow") as evaluator,
        ):
            for said, option in ((phone, "mine:net"), (fleet, "os:system"), (evaluator, "os:system")):
                stage.until(lambda: f"--allow {option}" in said.read_text(), said.name, timeout_s=120)  # noqa: B023
        assert not (tmp_path / "ran").exists()
        assert not (tmp_path / "imported").exists()
        # The very command that the device asked for, but for an end.
        with running(stage, *device, "--updates", "1", "--allow", "mine:net") as phone:
            stage.until(lambda: "admitted 1" in phone.read_text(), "an update", timeout_s=120)
        assert (tmp_path / "imported").exists()
