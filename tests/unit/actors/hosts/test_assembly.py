"""An actor is put together from its row, and a worker loads the parts of its own row only."""

from __future__ import annotations

import subprocess
import sys

import pytest

from actors.hosts.assembly import assemble
from actors.wiring import ROLES
from schemas.topics import CATALOGUE
from streams.memory import MemoryLog
from tests.worlds.builders import role_key


@pytest.mark.parametrize("name", ROLES)
def test_each_row_makes_an_actor(name: str) -> None:
    """It opens on an empty log, with the state that its decider begins with."""
    role = ROLES[name]
    actor = assemble(name, 3, log=MemoryLog(CATALOGUE), key=role_key(name))
    actor.open()
    assert actor.state == role.load_decider().initial()
    assert type(actor.state).__module__.startswith((role.decider, "actors.deciders.selecting"))


@pytest.mark.parametrize(("name", "is_loaded"), [("selector", False), ("aggregator", False), ("privacy", True)])
def test_only_the_privacy_budget_loads_its_accounting(name: str, *, is_loaded: bool) -> None:
    """dp-accounting takes as long to import as all the rest of a worker."""
    program = f"""
import sys
from actors.hosts.assembly import assemble
from actors.hosts.metrics import ActorMetrics, PrometheusInstruments
from actors.keys import OperatorKey
from actors.wiring import ROLES
from schemas.topics import CATALOGUE
from streams.memory import MemoryLog
ActorMetrics(ROLES[{name!r}], PrometheusInstruments())
assemble({name!r}, 0, log=MemoryLog(CATALOGUE), key=OperatorKey(bytes(32)).issue({name!r}, bytes(16), until_ms=1 << 60))
print("dp_accounting" in sys.modules)
"""
    loaded = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert loaded.stdout.strip() == str(is_loaded)
