"""What the aggregator's state says of a task: the awaited release, staleness, bodies that nobody needs, and subjects.

Where devices are enrolled the aggregator counts subjects, whatever a selector has let through.
"""

from __future__ import annotations

from actors.deciders.admission import refusal
from actors.deciders.aggregator_state import Rounds, Task, entries, evolve
from schemas.canonical import decode_state, encode_state
from schemas.events import JournalEvent, Noticed, RoundOpened, TaskHalted
from schemas.identifiers import BodyRef
from schemas.policy import Policy
from tests.worlds.builders import (
    TASK,
    body_ref,
    lease,
    model_published,
    policy,
    private_policy,
    round_proposed,
    task_created,
    update_admitted,
)
from tests.worlds.identity.enrolling import subject_id
from tests.worlds.rounds import AGGREGATOR, round_charged
from tests.worlds.specification import given

PRIVATE = private_policy()


def _task(rules: Policy | None = None, *history: JournalEvent) -> Task:
    begun = Noticed(fact=task_created(rules or policy())), model_published(), RoundOpened(task=TASK, round=0)
    return given(AGGREGATOR, *begun, *history).state.tasks[TASK]


def _round(round_id: int) -> tuple[JournalEvent, ...]:
    """A round of one member, proposed, and the next one."""
    admitted = update_admitted(f"d{round_id}", round=round_id)
    return admitted, round_proposed(round_id), RoundOpened(task=TASK, round=round_id + 1)


def test_the_first_pending_round_is_awaited() -> None:
    """Rounds are released in their order; without privacy no charge is waited for."""
    assert _task().find_awaited() is None
    awaited = _task(None, *_round(0), *_round(1)).find_awaited()
    assert awaited is not None
    assert (awaited.id, [*awaited.members]) == (0, ["d0"])


def test_with_privacy_a_charge_comes_first() -> None:
    """A charge of the round behind it does not help the first."""
    assert _task(PRIVATE, *_round(0)).find_awaited() is None
    assert _task(PRIVATE, *_round(0), *_round(1), Noticed(fact=round_charged(1, PRIVATE))).find_awaited() is None
    charged = _task(PRIVATE, *_round(0), Noticed(fact=round_charged(0, PRIVATE))).find_awaited()
    assert charged is not None
    assert charged.id == 0


def _outdated(rules: Policy, versions: int) -> list[BodyRef]:
    published = [model_published(v, moments=body_ref(f"moments {v}", "models")) for v in range(1, versions + 1)]
    return _task(rules, *published).list_outdated()


def test_a_version_makes_older_bodies_superfluous() -> None:
    """The model that falls out of the window goes, and the moments of the version before the last two."""
    rules = policy(retention={"models_kept": 3, "milestone_every": 0})
    assert _outdated(rules, 2) == []
    assert _outdated(rules, 3) == [model_published(0).model, body_ref("moments 1", "models")]
    assert _outdated(rules, 4) == [model_published(1).model, body_ref("moments 2", "models")]


def test_milestones_stay() -> None:
    """Every so many versions a model is kept for ever."""
    rules = policy(retention={"models_kept": 3, "milestone_every": 2})
    assert _outdated(rules, 5) == [body_ref("moments 3", "models")]
    assert _outdated(rules, 4) == [model_published(1).model, body_ref("moments 2", "models")]


def test_what_follows_from_the_fields_is_in_no_digest() -> None:
    """A state that was read back from its bytes finds outcomes, and forgets them, as before."""
    situation = given(AGGREGATOR, Noticed(fact=task_created()), model_published(), RoundOpened(task=TASK, round=0))
    situation.given(update_admitted("a"), update_admitted("b"))
    restored = decode_state(encode_state(situation.state), type(situation.state))
    assert restored == situation.state
    assert restored.tasks[TASK].outcomes.find(update_admitted("a").update) == "admitted"
    assert entries(restored) == 4


def test_a_halt_drops_the_buffer() -> None:
    """Nothing is admitted after it."""
    state = given(AGGREGATOR, Noticed(fact=task_created()), RoundOpened(task=TASK, round=0)).state
    evolve(state, TaskHalted(task=TASK, reason="idle", version=None), 0)
    assert (state.tasks[TASK].status, state.tasks[TASK].buffer) == ("halted", None)


# --- subjects -------------------------------------------------------------------------------------------------------

ADA, BOB = subject_id("ada"), subject_id("bob")
ONCE = policy(identity="enrolled", selection={"participations_max": 1})


def _begin(rules: Policy, *, rounds: int = 1) -> Task:
    """A task whose round 0 has an update of ada's first key; with two rounds it is over."""
    history = [
        Noticed(fact=task_created(rules)),
        model_published(),
        RoundOpened(task=TASK, round=0),
        update_admitted("a", subject=ADA),
        *(RoundOpened(task=TASK, round=number) for number in range(1, rounds)),
    ]
    return given(AGGREGATOR, *history).state.tasks[TASK]


def _refusal(task: Task, device: str, subject: str | None) -> str | None:
    changes = {} if subject is None else {"subject": subject}
    return refusal(Rounds({task.created.task: task}), lease(device, of=task.created, **changes), append_ms=1)


def test_a_subject_is_once_in_a_round_whatever_its_key() -> None:
    """Guarantee: the mechanism covers one update a person in each round."""
    task = _begin(policy(identity="enrolled"))
    assert _refusal(task, "b", ADA) == "in_round"
    assert _refusal(task, "b", BOB) is None


def test_the_cap_counts_subjects() -> None:
    """Guarantee: the budget of a person is not passed by a new key, even where a selector has forgotten."""
    task = _begin(ONCE, rounds=2)
    assert _refusal(task, "b", ADA) == "participations"
    assert _refusal(task, "b", BOB) is None


def test_a_lease_says_as_whom_it_counts_where_the_policy_asks_and_nowhere_else() -> None:
    """Guarantee: no lease without a subject in a task of enrolled devices, and none with one in an open task."""
    assert _refusal(_begin(policy(identity="enrolled")), "b", None) == "other_policy"
    assert _refusal(_begin(policy()), "b", BOB) == "other_policy"
    assert _refusal(_begin(policy()), "b", None) is None
