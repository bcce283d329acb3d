"""The road of one update through the aggregator: how often it enters a file, from the record to the answer."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import numpy as np

from ops.virtual.server import list_unread
from schemas.events import UpdateAdmitted
from schemas.topics import ROUNDS
from tests.root import ROOT
from tests.worlds.builders import policy
from tests.worlds.federation import Federation

# Outcomes are columns with a file of their own, a seal stands between body and codec, and what a population has left
# for a device is asked for at its admission: fifteen stays more than before these were there.
STAYS_MAX = 42
ROOMS = tuple(f"{ROOT / package}/" for package in ("streams", "actors", "client_agent", "ops"))


@contextmanager
def traced() -> Iterator[list[str]]:
    """The files of the application that are entered meanwhile; calls within one file are one stay.

    Calls into `schemas` are left out: every room speaks that vocabulary.
    """
    stays: list[str] = []

    def enter(frame: FrameType, event: str, _: Any) -> None:
        path = frame.f_code.co_filename
        if event == "call" and path.startswith(ROOMS):
            name = path.removeprefix(f"{ROOT}/").removesuffix(".py")
            if not stays or stays[-1] != name:
                stays.append(name)

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        yield stays
    finally:
        sys.settrace(before)


def test_an_update_is_admitted_on_a_straight_road() -> None:
    """Verify, measure, decide, fold, add, journal, answer: control does not go to and fro between files."""
    world = Federation(policy())
    world.round_of({"a": np.ones(4, np.float32)})
    world.device("b").check_in()
    world.settle()
    offset = world.device("b").submit(np.ones(4, np.float32), world.rules)
    actor = world.actors["aggregator"]
    [record] = list_unread(actor, world.log, *actor.role.inputs)
    assert record.offset == offset
    with traced() as stays:
        actor.handle([record])
        actor.work()
    assert len(world.events(ROUNDS.name, UpdateAdmitted)) == 2
    assert len(stays) <= STAYS_MAX, f"{len(stays)} stays in {len(set(stays))} files:\n" + " › ".join(stays)
