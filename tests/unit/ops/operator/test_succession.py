"""Who carries on from a task, and with what: one successor, and all that was spent."""

from __future__ import annotations

from typing import Any

import pytest

from ops.history.task_view import TaskView, evolve
from ops.operator import succession
from ops.operator.errors import BudgetSpent, ParentUnprotected, SuccessorExists
from schemas.creations import parse_task_event
from schemas.events import TaskCreated, TaskSucceeded
from schemas.policy import Policy
from streams.log import TopicPartition, scan
from streams.memory import MemoryLog
from tests.worlds.builders import DEPLOYMENT, KEY, policy, private_policy, spending, update_admitted
from tests.worlds.ops_journal import PLACE, TASK, append, created, memory_log

PARENT = created(policy=private_policy(0.5, 30.0), parent="earlier", spent_before=(spending(4, 2.0, task="earlier"),))


def _claims(log: MemoryLog) -> list[str]:
    events = [parse_task_event(record, KEY.public_key) for record in scan(log, TopicPartition("tasks", PLACE))]
    return [event.successor for event in events if isinstance(event, TaskSucceeded)]


def test_the_first_claim_wins_and_can_be_repeated() -> None:
    """A command that is given again adds nothing; another name is told whose the task is."""
    log = memory_log()
    for _ in range(2):
        succession.claim(log, PARENT, successor="next", key=KEY)
    with pytest.raises(SuccessorExists, match="'next' already carries on from 'digits'"):
        succession.claim(log, PARENT, successor="other", key=KEY)
    assert _claims(log) == ["next"]


def test_of_two_claims_at_once_the_log_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both have found the task free; the order of its own partition tells them apart, for both alike."""
    log, look, looks = memory_log(), succession._find_claim, list[object]()

    def late(log: Any, parent: TaskCreated, *, key: Any) -> Any:
        found = look(log, parent, key=key)
        if not looks:
            append(log, "tasks", TaskSucceeded(task=TASK, deployment=DEPLOYMENT, successor="faster"))
        looks.append(found)
        return found

    monkeypatch.setattr(succession, "_find_claim", late)
    with pytest.raises(SuccessorExists, match="'faster' already carries on"):
        succession.claim(log, PARENT, successor="slower", key=KEY)
    assert _claims(log) == ["faster", "slower"]


@pytest.mark.parametrize(
    ("parent", "child", "refused"),
    [(policy(), private_policy(), True), (policy(), policy(), False), (private_policy(), policy(), False)],
)
def test_a_private_task_has_a_private_parent(parent: Policy, child: Policy, refused: bool) -> None:
    """What was released without noise no budget pays for; a task without privacy promises nothing anyway."""
    if refused:
        with pytest.raises(ParentUnprotected, match="'digits' was trained without privacy"):
            succession.check_privacy(created(policy=parent), child)
    else:
        succession.check_privacy(created(policy=parent), child)


def test_all_that_was_spent_is_listed_and_what_is_left_is_checked() -> None:
    """Each generation at its own noise; where that leaves not one participation, nothing begins."""
    view = TaskView(TASK)
    for event in (PARENT, *(update_admitted("busy", update=f"{n:032x}") for n in range(3)), update_admitted("rare")):
        evolve(view, event)
    spent = succession.list_spent(view, private_policy(20.0, 6.6))
    assert spent == (spending(4, 2.0, task="earlier"), spending(3, 0.5, task=TASK))
    with pytest.raises(BudgetSpent, match=r"have spent rho 6.5 of rho_max 6.501"):
        succession.list_spent(view, private_policy(20.0, 6.501))
    assert succession.list_spent(view, policy()) == ()
