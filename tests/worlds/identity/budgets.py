"""A population with several tasks, and budgets for it, as tests make them."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from typing import Any

import msgspec
import numpy as np

from schemas.events import PopulationBudgetSet, UpdateAdmitted
from schemas.policy import Policy, to_fraction
from schemas.topics import ROUNDS, TASKS
from tests.worlds.builders import DEPLOYMENT, create_task, private_policy, written
from tests.worlds.federation import Federation, ScriptedDevice

ONES = np.ones(4, np.float32)


def budget_set(rho_max: float = 1.0, **changes: Any) -> PopulationBudgetSet:
    """What the devices of `city` may spend over all of its tasks."""
    plain = PopulationBudgetSet(population="city", deployment=DEPLOYMENT, rho_max=rho_max, identity="open")
    return msgspec.structs.replace(plain, **changes)


def rules_of(noise_multiplier: float, rho_max: float = 50.0, **sections: Any) -> Policy:
    """Rounds of two, for as long as anybody may take part."""
    plain = {"aggregation": {"updates_per_round": 2}, "selection": {"devices_expected": 6, "concurrency": 6}}
    return private_policy(noise_multiplier, rho_max, **{**plain, **sections})


class City(Federation):
    """Tasks of one population, and what the operator says of its budget before they are created."""

    def __init__(self, tasks: dict[str, Policy], *budgets: PopulationBudgetSet) -> None:
        self.city, self.budgets = tasks, budgets
        super().__init__(next(iter(tasks.values())), task=next(iter(tasks)))

    def create(self, model: Any) -> None:
        for budget in self.budgets:
            self.append(TASKS.name, written(budget))
        for name, rules in self.city.items():
            create_task(self.log, rules, task=name, model=model)

    def take_part(self, task: str, *names: str) -> None:
        """Each of these devices asks for a lease of the task, and submits where it gets one."""
        for name in names:
            device = ScriptedDevice(name, self.log, task=task, sent_ms=self.sent_ms)
            before = len(device.answers())
            device.check_in()
            self.settle()
            if len(device.answers()) > before and type(device.answers()[-1]).__name__ == "Granted":
                device.submit(ONES, self.city[task])
        self.settle()

    def count_spent(self) -> dict[str, Fraction]:
        """What each device has spent, by the admissions alone."""
        z = {name: to_fraction(rules.privacy.noise_multiplier) for name, rules in self.city.items() if rules.privacy}
        spent: Counter[str] = Counter()
        for event in self.events(ROUNDS.name, UpdateAdmitted):
            spent[event.device] += 1 / (2 * z[event.task] ** 2)  # type: ignore[assignment]
        return spent  # type: ignore[return-value]
