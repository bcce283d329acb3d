"""Orders of the operator, and where a rollout stands, as console, API and page say it."""

from __future__ import annotations

import pytest

from ops.operator.errors import OrderUnnoticed, RolloutMissing, RolloutOrderRefused, TaskUnknown
from ops.operator.releasing import rollouts
from ops.operator.releasing.rollouts import Wish
from schemas.events import Promoted, RolledBack
from tests.worlds.builders import KEY, policy
from tests.worlds.federation import Federation, at_work
from tests.worlds.releasing.federation import Released


def test_an_order_waits_for_what_follows_from_it() -> None:
    """Promote and roll back: each returns the steps that it caused, with the words that people read."""
    world = Released()
    version = world.publish()
    with at_work(world):
        [promoted] = rollouts.order(world.log, world.task, wish=Wish("promote", version), key=KEY)
        [back] = rollouts.order(world.log, world.task, wish=Wish("rollback"), key=KEY)
        assert rollouts.order(world.log, world.task, wish=Wish("resume"), key=KEY) == []
    assert isinstance(promoted.event, Promoted)
    assert isinstance(back.event, RolledBack)
    assert promoted.text == f"version {version} is the one to use"
    assert back.describe()["reason"] == "ordered"


def test_an_order_that_changes_nothing_says_why() -> None:
    """A version that is gone, or that never was, is refused with the reason, and the exit code of a no."""
    world = Released()
    for _ in range(4):
        world.publish()
    with at_work(world):
        with pytest.raises(RolloutOrderRefused, match="its model may be deleted"):
            rollouts.order(world.log, world.task, wish=Wish("promote", 1), key=KEY)
        with pytest.raises(RolloutOrderRefused, match="no such version"):
            rollouts.order(world.log, world.task, wish=Wish("promote", 99), key=KEY)
    assert RolloutOrderRefused.exit_code == 1


def test_an_order_that_nobody_decides_says_who_is_missing() -> None:
    """It is signed already, and counts once the workers run; nobody waits without end."""
    world = Released()
    with pytest.raises(OrderUnnoticed, match="worker rollout"):
        rollouts.order(world.log, world.task, wish=Wish("halt"), key=KEY, wait_s=0.1)


def test_a_task_without_a_rollout_says_so() -> None:
    """And so does one that nobody created."""
    world = Federation(policy())
    with pytest.raises(RolloutMissing, match=r"no table \[rollout\]"):
        rollouts.show(world.log, world.task, operator=KEY.public_key)
    with pytest.raises(TaskUnknown):
        rollouts.show(world.log, "other", operator=KEY.public_key)


def test_a_standing_says_stage_promoted_and_the_last_rollback() -> None:
    """All that people ask, from the journal alone; the rollback with its scores in words."""
    world = Released()
    first = world.promote(0.9)
    second = world.publish()
    world.score(second, 0.5)
    third = world.publish()
    world.score(third, 0.9)
    found = rollouts.show(world.log, world.task, operator=KEY.public_key).describe()
    assert (found["promoted"], found["candidate"], found["stage"], found["stages"]) == (first, third, 0, 2)
    assert (found["share"], found["cohorts"]) == (0.05, ["lab"])
    assert found["last_rollback"]["version"] == second
    assert f"accuracy 0.5 of version {second}" in found["last_rollback"]["text"]
    assert found["is_known"]


def test_people_read_of_stages_in_one_way() -> None:
    """In words the first stage is number 1, as the lines above the steps count it; JSON has its place in the policy."""
    world = Released()
    world.score(world.publish(), 0.9)
    found = rollouts.show(world.log, world.task, operator=KEY.public_key).describe()
    [started] = [step for step in found["steps"] if step["step"] == "CanaryStarted"]
    assert (found["stage"], started["stage"]) == (0, 0)
    assert started["text"].endswith("stage 1")
