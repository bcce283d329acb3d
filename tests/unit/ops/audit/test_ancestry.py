"""What the tasks before have spent is recounted from their own journals: a creation that forgets it is named."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from ops.audit.ancestry import check_ancestry
from ops.audit.replay import Audit
from schemas.events import Noticed, RoundOpened, TaskCreated, TaskSucceeded
from streams.memory import MemoryLog
from tests.places import home_of
from tests.unit.ops.history.test_projections import admitted
from tests.worlds.builders import ANCHOR, DEPLOYMENT, KEY, create_task, policy, private_policy, spending, trust
from tests.worlds.federation import Federation
from tests.worlds.ops_journal import PLACE, TASK, Journal, append, created, memory_log

FIRST = created("first", policy=private_policy(2.0))
SECOND = created(TASK, policy=private_policy(0.5), parent="first", spent_before=(spending(1, 2.0, task="first"),))
SPENT = (*SECOND.spent_before, spending(3, 0.5, task=TASK))
CHILD = created("next", policy=private_policy(20.0), parent=TASK, spent_before=SPENT)


def _log(*written: Any) -> MemoryLog:
    """Two generations: a device took part once in the first, three times in the second."""
    log = memory_log()
    for task, taken in ((FIRST, 1), (SECOND, 3)):
        place = home_of(task.task)
        append(log, "tasks", task, partition=place)
        admissions = [msgspec.structs.replace(admitted(n, device="busy"), task=task.task) for n in range(taken)]
        Journal(log, "rounds", place).batch(Noticed(fact=task), RoundOpened(task=task.task, round=0), *admissions)
    for parent, child in (("first", TASK), (TASK, "next")):
        _claim(log, parent, child)
    for event in written:
        append(log, "tasks", event)
    return log


def _claim(log: MemoryLog, parent: str, child: str) -> None:
    event = TaskSucceeded(task=parent, deployment=DEPLOYMENT, successor=child)
    append(log, "tasks", event, partition=home_of(parent))


def _check(log: MemoryLog, child: TaskCreated) -> list[str]:
    return [*check_ancestry(log, child, operator=KEY.public_key, trust=trust())]


def test_an_honest_chain_of_tasks_is_recounted() -> None:
    """Each generation's admissions give what the next one says."""
    assert _check(_log(), CHILD) == []
    assert _check(_log(), created("alone")) == []


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"spent_before": ()}, "the tasks before have spent"),
        ({"spent_before": (*SECOND.spent_before, spending(2, 0.5, task=TASK))}, "('digits', 3, 0.5)"),
        ({"spent_before": (*SECOND.spent_before, spending(3, 20.0, task=TASK))}, "('digits', 3, 0.5)"),
        ({"spent_before": SPENT[1:]}, "('first', 1, 2.0)"),
        ({"task": "other"}, "'next' was the first to carry on from 'digits', not 'other'"),
        ({"parent": "nowhere"}, "its parent 'nowhere' is not in tasks"),
    ],
    ids=lambda case: str(case)[:40],
)
def test_what_a_creation_forgets_is_named(changes: dict[str, Any], what: str) -> None:
    """Fewer participations, other noise, a generation left out, a second successor, a parent that nobody created."""
    [fault] = _check(_log(), msgspec.structs.replace(CHILD, **changes))
    assert what in fault


def test_an_ancestor_that_forgets_is_named_too() -> None:
    """A share that was left out a generation ago is missing in every later one."""
    log = _log()
    middle = created("next", policy=private_policy(20.0), parent=TASK, spent_before=SPENT[1:])
    append(log, "tasks", middle, partition=home_of("next"))
    Journal(log, "rounds", home_of("next"))
    _claim(log, "next", "last")
    last = created("last", policy=private_policy(), parent="next", spent_before=middle.list_spent(0))
    assert any("('first', 1, 2.0)" in fault for fault in _check(log, last))


def test_a_parent_without_privacy_is_named() -> None:
    """What it has released no budget has paid for."""
    log = memory_log()
    append(log, "tasks", created(policy=policy()))
    _claim(log, TASK, "next")
    assert home_of(TASK) == PLACE
    assert any("without privacy" in fault for fault in _check(log, CHILD))


def test_a_full_replay_looks_at_the_ancestry() -> None:
    """An actor cannot look into another partition; whoever replays the log does."""
    world = Federation(private_policy())
    name = next(f"child-{n}" for n in range(999) if home_of(f"child-{n}") == world.partition)
    rules = private_policy(4.0)
    create_task(world.log, rules, task=name, model=np.zeros(4), parent="lost", spent_before=(spending(task="lost"),))
    world.settle()
    audits = [Audit(world.log, world.partition, anchor=ANCHOR, full=full) for full in (False, True)]
    quick, whole = (audit.run() for audit in audits)
    assert quick.differences == []
    assert "its parent 'lost' is not in tasks" in whole.verdict
