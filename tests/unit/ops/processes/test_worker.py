"""The worker's orders: one line on its stdin that holds all that it needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.runtime.guard import InputPlace, PoisonInput
from actors.wiring import ROLES
from ops.processes.worker import Orders, list_inputs
from ops.settings import Settings
from tests.worlds.builders import role_key

SETTINGS = Settings(folder=Path("there"), operator_key_file=Path("k"), sasl_password="secret-word", metrics_port=9000)
POISON = PoisonInput(5, InputPlace("rounds", 41, 2), 3, "killed by SIGKILL")


@pytest.mark.parametrize("poison", [None, POISON])
def test_orders_arrive_as_they_were_given(poison: PoisonInput | None) -> None:
    """Settings with their paths, the file of the crash marker and the input to skip survive the pipe."""
    orders = Orders(settings=SETTINGS, key=role_key("selector"), crash_marker=7, poison_input=poison)
    line = orders.encode()
    assert line.count(b"\n") == 1
    assert Orders.decode(line) == orders


def test_each_actor_knows_its_inputs() -> None:
    """A crash marker counts topics in this order; a shard worker decides nothing and has none."""
    assert list_inputs("aggregator") == tuple(ROLES["aggregator"].inputs)
    assert list_inputs("shard") == ()
