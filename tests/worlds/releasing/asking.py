"""A federation whose devices are also asked: a rollout, and beside it a measure task whose drift holds it back."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.worlds.builders import TASK, create_task
from tests.worlds.drift.asking import all_in, drift_policy
from tests.worlds.federation import ScriptedDevice
from tests.worlds.releasing.deciding import rollout_policy
from tests.worlds.releasing.federation import Released

ASKED = f"{TASK}.ages"
GATES: list[dict[str, Any]] = [
    {"metric": "accuracy", "at_least": 0.5},
    {"metric": "ks", "drift_of": ASKED, "drift_max": 0.5},
]


class Asked(Released):
    """Versions of the task are rolled out while nothing has moved that its devices answer."""

    def __init__(self) -> None:
        super().__init__(rollout_policy(kept=3, gates=GATES))
        self.question = drift_policy()
        create_task(self.log, self.question, task=ASKED, model=np.zeros(4))
        self.settle()

    def answer(self, *places: int) -> None:
        """One version of the measure task: everybody's examples are in these bins, in turn."""
        asked = {f"d{number}": each for number, each in enumerate(all_in(*places))}
        devices = {name: ScriptedDevice(name, self.log, task=ASKED, sent_ms=self.sent_ms) for name in asked}
        for device in devices.values():
            device.check_in()
        self.settle()
        for name, delta in asked.items():
            devices[name].submit(delta, self.question)
        self.settle()
