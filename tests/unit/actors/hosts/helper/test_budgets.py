"""Masked tasks under one budget of their population: each device spends once for all, and helpers see to their part."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ops.audit.replay import Anchor, Audit
from schemas.events import Granted, ModelPublished, RoundCharged, UpdateAdmitted
from schemas.topics import LEDGER, ROUNDS, TASKS
from tests.judges.lawcheck import check
from tests.worlds.builders import KEY, create_task, written
from tests.worlds.identity.budgets import budget_set
from tests.worlds.masking.federation import MaskedFederation, masked_policy

ONES = np.ones(4, np.float32)
FIRST, SECOND = "city.first", "city.second"


class MaskedCity(MaskedFederation):
    """Two masked, private tasks of one population, whose devices may take part twice in both together."""

    def create(self, model: np.ndarray) -> None:
        self.append(TASKS.name, written(budget_set(1.0)))
        for task in (FIRST, SECOND):
            create_task(self.log, self.rules, task=task, model=model)

    def take_part(self, task: str, *names: str) -> None:
        """Each asks for a lease of the task, and submits where it gets one."""
        self.task = task
        for name in names:
            before = len(self.device(name).answers())
            self.device(name).check_in()
            self.settle()
            if any(isinstance(answer, Granted) for answer in self.device(name).answers()[before:]):
                self.submit(name, ONES)
        self.settle()


@pytest.mark.parametrize("noise", ["helpers", "aggregator"])
def test_masked_tasks_share_a_budget(tmp_path: Path, noise: str) -> None:
    """What a device spent in one is gone for the other; helpers answer for what was charged, and a replay counts it."""
    rules = masked_policy(
        tmp_path,
        masked={"noise": noise},
        aggregation={"updates_per_round": 2},
        selection={"devices_expected": 6, "concurrency": 6},
        privacy={"noise_multiplier": 1.0, "rho_max": 50.0},
        stop={"versions_max": 40},
    )
    world = MaskedCity(rules, tmp_path, task=FIRST)
    world.take_part(FIRST, "a", "b")
    world.start_helper(1)
    world.take_part(SECOND, "b", "a")
    for task in (FIRST, SECOND):
        world.take_part(task, "a", "b")
    world.take_part(SECOND, "c", "d")
    published = [(event.task, event.version) for event in world.events(ROUNDS.name, ModelPublished) if event.version]
    assert published == [(FIRST, 1), (SECOND, 1), (SECOND, 2)]
    assert len(world.events(ROUNDS.name, UpdateAdmitted)) == 6
    charged = [
        (event.population.rho_spent, event.population.rho_max) for event in world.events(LEDGER.name, RoundCharged)
    ]
    assert charged == [(0.5, 1.0), (1.0, 1.0), (1.0, 1.0)]
    assert check(world.log, world.partition, settled=True) == []
    anchor = Anchor(operator=KEY.public_key, noise=KEY.find_noise)
    found = Audit(world.log, world.partition, anchor=anchor, full=True).run()
    assert (found.verdict, found.sums, found.compared, found.charges) == ("identical", 3, 3, 3)
