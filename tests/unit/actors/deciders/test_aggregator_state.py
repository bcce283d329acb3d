"""What the aggregator's state says of a task: the awaited release, staleness, and bodies that nobody needs."""

from __future__ import annotations

from actors.deciders.aggregator_state import Task, entries, evolve
from schemas.canonical import decode_state, encode_state
from schemas.events import JournalEvent, Noticed, RoundOpened, TaskHalted
from schemas.identifiers import BodyRef
from schemas.policy import Policy
from tests.worlds.builders import (
    TASK,
    body_ref,
    model_published,
    policy,
    private_policy,
    round_proposed,
    task_created,
    update_admitted,
)
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
