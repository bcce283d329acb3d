"""Orders of the operator: each number once, refused with a reason where there is nothing to do it with."""

from __future__ import annotations

import pytest

from schemas.events import (
    CanaryStarted,
    JournalEvent,
    Noticed,
    OrderRefusal,
    OrderRefused,
    Promoted,
    RolledBack,
    RolloutAction,
    RolloutHalted,
    RolloutResumed,
    Tick,
)
from tests.worlds.builders import TASK
from tests.worlds.releasing.deciding import (
    HOLD_MS,
    find_task,
    kept,
    model_of,
    order,
    promote_first,
    proof,
    published,
    rolled_out,
    rollout_policy,
    score,
)


def refused(action: RolloutAction, reason: OrderRefusal, *, number: int = 1) -> OrderRefused:
    """An order that changes nothing."""
    return OrderRefused(task=TASK, number=number, action=action, reason=reason)


def growing() -> list[JournalEvent]:
    """Version 1 is promoted, version 2 a canary in its first stage."""
    here = promote_first().when(published(2), score(2, 0.9, cohort="lab"), score(2, 0.9), kept(2, 1))
    assert isinstance(here.caused[-1], CanaryStarted)
    return here.caused


def test_a_version_without_a_score_is_promoted_by_order() -> None:
    """The operator is the master; that there is no evidence is said, not made up."""
    here = rolled_out().when(order("promote", 0))
    here.then(order("promote", 0), Promoted(task=TASK, version=0, previous=None, evidence=(), model=model_of(0)))


def test_a_number_orders_once() -> None:
    """A copy of an order, or an older one, changes nothing, whatever has happened since."""
    here = rolled_out().when(published(1), order("promote", 1, number=4), order("rollback", number=5))
    assert find_task(here).promoted is None
    here.when(order("promote", 1, number=4)).then_nothing()
    here.when(order("rollback", number=5)).then_nothing()
    here.when(order("promote", 0, number=3)).then_nothing()


def test_a_version_that_is_gone_is_not_promoted() -> None:
    """Neither one whose model may be deleted, nor one that was never published; the refusal is an outcome."""
    here = rolled_out(rollout_policy(kept=2)).when(published(1), published(2), published(3))
    here.when(order("promote", 1)).then(order("promote", 1), refused("promote", "gone"))
    here.when(order("promote", 9, number=2)).then(
        order("promote", 9, number=2), refused("promote", "unpublished", number=2)
    )
    here.when(order("promote", 2, number=3))
    assert isinstance(here.caused[-1], Promoted)


def test_a_rollback_while_a_canary_grows_takes_the_canary_back() -> None:
    """Production stays as it is; a second rollback takes production back."""
    here = promote_first().when(published(2), score(2, 0.9, cohort="lab"), score(2, 0.9), kept(2, 1))
    here.at(here.time_ms + HOLD_MS).when(Tick())
    here.when(order("rollback")).then(
        order("rollback"), RolledBack(task=TASK, version=2, to=1, reason="ordered", evidence=(), model=model_of(1))
    )
    here.when(order("rollback", number=2)).then(
        order("rollback", number=2),
        RolledBack(task=TASK, version=1, to=None, reason="ordered", evidence=(), model=None),
    )
    here.when(order("rollback", number=3)).then(
        order("rollback", number=3), refused("rollback", "nothing_to_roll_back", number=3)
    )


def test_a_promotion_takes_the_place_of_another_candidate() -> None:
    """Never two at a time: the candidate that the operator passes over is rolled back first."""
    here = promote_first().when(published(2), published(3), score(3, 0.9, cohort="lab"), score(3, 0.9), kept(3, 1))
    here.when(order("promote", 2)).then(
        order("promote", 2),
        RolledBack(task=TASK, version=3, to=1, reason="superseded", evidence=(), model=model_of(1)),
        Promoted(task=TASK, version=2, previous=1, evidence=(), model=model_of(2)),
    )


def test_the_candidate_itself_may_be_promoted_early() -> None:
    """Its scores are the evidence."""
    here = promote_first().when(published(2), score(2, 0.9, cohort="lab"), score(2, 0.9), kept(2, 1))
    here.when(order("promote", 2)).then(
        order("promote", 2),
        Promoted(task=TASK, version=2, previous=1, evidence=(proof(2, 0.9),), model=model_of(2)),
    )


def test_a_halt_holds_everything_until_it_is_resumed() -> None:
    """Neither time nor scores move a halted rollout; it then goes on from where it stood."""
    here = promote_first().when(published(2), score(2, 0.9, cohort="lab"), score(2, 0.9), kept(2, 1))
    here.when(order("halt")).then(order("halt"), RolloutHalted(task=TASK, version=2, reason="ordered", evidence=()))
    here.when(order("halt", number=2)).then(order("halt", number=2))
    here.at(here.time_ms + 9 * HOLD_MS).when(Tick()).then_nothing()
    here.when(score(2, 0.1, by="b" * 16)).then(Noticed(fact=score(2, 0.1, by="b" * 16)))
    here.when(order("resume", number=3))
    assert [type(event) for event in here.caused] == [Noticed, RolloutResumed, RolledBack]


@pytest.mark.parametrize(
    ("action", "version", "reason"),
    [("approve", None, "no_candidate"), ("rollback", 0, "other_version"), ("promote", None, "unpublished")],
)
def test_an_order_that_fits_nothing_is_refused(
    action: RolloutAction, version: int | None, reason: OrderRefusal
) -> None:
    """With a reason from the closed list."""
    here = promote_first().when(order(action, version))
    here.then(order(action, version), refused(action, reason))


def test_an_order_of_an_unknown_task_is_nothing() -> None:
    """The aggregator passes on orders of tasks that it knows."""
    other = order("promote", 1)
    here = rolled_out()
    here.state.tasks.clear()
    here.when(other).then_nothing()
