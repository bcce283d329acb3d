"""What the aggregator holds of models: bounded, and nothing of a task that is over."""

from __future__ import annotations

import numpy as np

from actors.effects.aggregator.model_cache import CachedModel, ModelCache
from schemas.events import TaskHalted
from schemas.topics import ROUNDS
from tests.worlds.builders import policy
from tests.worlds.federation import Federation


def _newest(digest: int, *, moments: bool = False) -> CachedModel:
    """Forty bytes, or eighty with moments."""
    vector = np.zeros(10, np.float32)
    return CachedModel(bytes([digest]), vector, vector if moments else None)


def test_models_leave_in_the_order_in_which_they_were_published() -> None:
    """Beyond the bound the task goes whose last version is the oldest; moments count too."""
    held = ModelCache(bytes_max=120)
    for task, digest in (("a", 1), ("b", 2), ("a", 3)):
        held.put(task, _newest(digest))
    held.put("c", _newest(4, moments=True))
    assert [held.get(task, bytes([digest])) is not None for task, digest in (("a", 3), ("b", 2), ("c", 4))] == [1, 0, 1]
    assert held.get("a", b"another") is None


def test_one_model_is_held_however_large() -> None:
    """A task whose model alone is above the bound need not fetch it for each release either."""
    held = ModelCache(bytes_max=1)
    held.put("a", _newest(1))
    held.put("b", _newest(2))
    assert (held.get("a", b"\1"), held.get("b", b"\2") is not None) == (None, True)


def test_nothing_is_held_of_a_task_that_has_halted() -> None:
    """Its last model is in the log; the memory is for those that go on."""
    world = Federation(policy(stop={"versions_max": 1}))
    world.round_of({name: np.ones(4, np.float32) for name in "abc"})
    assert world.events(ROUNDS.name, TaskHalted)
    assert world.actors["aggregator"]._effects._releases.models._models == {}
