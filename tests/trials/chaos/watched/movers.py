"""A measure task whose answers move while it is struck: all devices answer one of two bins, and soon the other."""

from __future__ import annotations

import threading

import numpy as np

from schemas.policy import Policy
from schemas.tensors import encode_update
from tests.survey import TOTAL
from tests.worlds.builders import policy
from tests.worlds.scripted_fleet import Fleet

BINS, MEMBERS = 2, 5
EVERY_S = 2.0


def make_question(parameters: int) -> Policy:
    """Rounds of five, the fewest whose answers in two bins can be further apart than chance has them."""
    statistics = {"histogram": {"bound": 1.0, "shape": (BINS,)}, "rest": {"bound": 1.0, "shape": (parameters - BINS,)}}
    return policy(
        model="",
        kind="measure",
        measure={"plugin": TOTAL, "statistics": statistics, "release": "sum"},
        drift={},
        compression={"codec": "float32", "error_feedback": False},
        clipping={"norm": 1.0},
        staleness={"rule": "constant"},
        selection={"devices_expected": 8, "concurrency": 8, "retry_after_s": 0.2, "lease_s": 6.0},
        aggregation={"updates_per_round": MEMBERS},
        stop={"versions_max": 5_000},
    )


def make_answer(rules: Policy, place: int, *, parameters: int) -> bytes:
    """What a device answers all of whose examples are in one bin."""
    shares = np.zeros(parameters, np.float32)
    shares[place] = 1
    return encode_update(shares, rules)


def move(fleet: Fleet, parameters: int, is_over: threading.Event) -> None:
    """Let everybody's answers move to the other bin and back, until the end."""
    answers = [make_answer(fleet.rules, place, parameters=parameters) for place in range(BINS)]
    turn = 0
    while True:
        fleet.bodies = (answers[turn % BINS],)
        if is_over.wait(EVERY_S):
            return
        # The reference first: from answers in both bins nothing could move far enough.
        turn += fleet.outcomes.total() >= 2 * MEMBERS
