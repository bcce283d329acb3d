"""Where devices are enrolled the aggregator counts subjects, whatever a selector has let through."""

from __future__ import annotations

from actors.deciders.admission import refusal
from actors.deciders.aggregator import make_decider
from actors.deciders.aggregator_state import Rounds, Task
from schemas.events import Noticed, RoundOpened
from schemas.policy import Policy
from tests.worlds.builders import TASK, lease, model_published, policy, task_created, update_admitted
from tests.worlds.identity.enrolling import subject_id
from tests.worlds.specification import given

ADA, BOB = subject_id("ada"), subject_id("bob")
ONCE = policy(identity="enrolled", selection={"participations_max": 1})
DECIDER = make_decider(bytes(8))


def _task(rules: Policy, *, rounds: int = 1) -> Task:
    """A task whose round 0 has an update of ada's first key; with two rounds it is over."""
    history = [
        Noticed(fact=task_created(rules)),
        model_published(),
        RoundOpened(task=TASK, round=0),
        update_admitted("a", subject=ADA),
        *(RoundOpened(task=TASK, round=number) for number in range(1, rounds)),
    ]
    return given(DECIDER, *history).state.tasks[TASK]


def _refusal(task: Task, device: str, subject: str | None) -> str | None:
    changes = {} if subject is None else {"subject": subject}
    return refusal(Rounds({task.created.task: task}), lease(device, of=task.created, **changes), append_ms=1)


def test_a_subject_is_once_in_a_round_whatever_its_key() -> None:
    """Guarantee: the mechanism covers one update a person in each round."""
    task = _task(policy(identity="enrolled"))
    assert _refusal(task, "b", ADA) == "in_round"
    assert _refusal(task, "b", BOB) is None


def test_the_cap_counts_subjects() -> None:
    """Guarantee: the budget of a person is not passed by a new key, even where a selector has forgotten."""
    task = _task(ONCE, rounds=2)
    assert _refusal(task, "b", ADA) == "participations"
    assert _refusal(task, "b", BOB) is None


def test_a_lease_says_as_whom_it_counts_where_the_policy_asks_and_nowhere_else() -> None:
    """Guarantee: no lease without a subject in a task of enrolled devices, and none with one in an open task."""
    assert _refusal(_task(policy(identity="enrolled")), "b", None) == "other_policy"
    assert _refusal(_task(policy()), "b", BOB) == "other_policy"
    assert _refusal(_task(policy()), "b", None) is None
