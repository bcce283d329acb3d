"""A task that compares its members while it is struck: two hostile devices, and an operator who always lets them in."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial

import numpy as np

from ops.operator import tasks
from ops.operator.errors import OperatorError
from ops.operator.quarantines import lifting
from schemas.policy import Policy
from schemas.tensors import encode_update
from streams.kafka.log import KafkaLog
from streams.log import LogError
from tests.learners import FLAT_LEARNER
from tests.trials.chaos.points import TASK
from tests.worlds.builders import policy
from tests.worlds.scripted_fleet import Fleet, Habits
from tests.worlds.stage import Stage, beside

HONEST, HOSTILE = 6, 2
EVERY_S = 0.5


def make_rules(parameters: int) -> Policy:
    """A device is out as soon as it stands apart, so that somebody is whenever a cell wants it."""
    return policy(
        selection={"devices_expected": 8, "concurrency": 8, "retry_after_s": 0.1, "lease_s": 6.0},
        aggregation={"updates_per_round": 5},
        quarantine={"rounds": 1, "window": 1},
        compression={"codec": "int8"},
        stop={"versions_max": 5_000},
        model="",
        learner=FLAT_LEARNER,
        learner_arguments={"parameters": parameters},
    )


@contextmanager
def attackers(stage: Stage, rules: Policy, parameters: int) -> Iterator[None]:
    """They attack until the end; whoever is out, honest or not, is let in again."""
    bodies = (encode_update(np.full(parameters, 1.0, np.float32), rules),)
    hostile = Fleet(
        *(stage.kafka, TASK, rules, parameters, HOSTILE), habits=Habits(rest_s=0.1), bodies=bodies, first=HONEST
    )
    with hostile as fleet, beside(partial(_lift, stage)):
        yield
        fleet.rest(90.0)


def _lift(stage: Stage, is_over: threading.Event) -> None:
    with closing(KafkaLog(stage.kafka)) as log:
        while not is_over.wait(EVERY_S):
            # Lost with the broker, it is said again; what nobody has decided yet is said twice.
            with suppress(LogError, OperatorError):
                for held in tasks.find_view(log, TASK, operator=stage.key.public_key).quarantined.values():
                    lifting.lift(log, TASK, device=held.device, key=stage.key)
