"""One task as a value: what its numbers are derived from, and what an event changes."""

from __future__ import annotations

from ops.history.task_view import TaskView, evolve
from schemas.events import (
    JournalEvent,
    LeaseClosed,
    RoundAbandoned,
    RoundOpened,
    RoundWithheld,
    TaskClosed,
    TaskHalted,
    TaskPaused,
    TaskResumed,
    VersionEvaluated,
)
from tests.unit.ops.history.test_projections import admitted, proposed, published
from tests.worlds.builders import spending, task_closed, task_paused, task_resumed
from tests.worlds.ops_journal import TASK, created, policy


def view(*events: JournalEvent | VersionEvaluated | TaskPaused | TaskResumed | TaskClosed) -> TaskView:
    """A task that was created, after these events."""
    found = TaskView(TASK)
    for event in (created(), *events):
        evolve(found, event, time_ms=5)
    return found


def evaluated(version: int, **metrics: float) -> VersionEvaluated:
    """A score."""
    return VersionEvaluated(task=TASK, version=version, metrics=metrics, samples=9, cohort="")


def test_a_task_that_is_over_grants_no_lease() -> None:
    """Closed or halted; a pause is not the end."""
    assert not view(task_paused()).is_over
    assert view(task_closed()).is_over
    halted = view(task_paused(), TaskHalted(task=TASK, reason="closed", version=3))
    assert (halted.is_over, halted.status) == (True, "halted: closed")


def test_a_pause_can_be_undone() -> None:
    """The last of pause and resume counts."""
    assert view(task_paused(), task_resumed()).status == "created"


def test_only_the_first_creation_counts() -> None:
    """Actors answer a second one with nothing, so a read model must not follow it either."""
    found = view()
    evolve(found, created(spent_before=(spending(99),)), time_ms=9)
    assert (found.created_ms, found.participations_max) == (5, 0)


def test_an_abandoned_round_leaves_an_empty_buffer() -> None:
    """Its members stay counted as admitted, because privacy was spent on them."""
    found = view(
        RoundOpened(task=TASK, round=0),
        admitted(1),
        RoundAbandoned(task=TASK, round=0, members_root=bytes(32), members=1, reason="closed"),
    )
    assert (found.buffer_fill, found.round, found.admitted, dict(found.abandoned)) == (0, None, 1, {"closed": 1})


def test_a_proposed_round_waits_for_its_version() -> None:
    """Several rounds may wait at once; each leaves with the version that it made."""
    found = view(RoundOpened(task=TASK, round=0), proposed(0), RoundOpened(task=TASK, round=1), proposed(1))
    assert found.rounds_pending == {0, 1}
    evolve(found, published(1, 0), time_ms=7)
    assert (found.rounds_pending, found.version, found.published_ms) == ({1}, 1, {1: 7})


def test_one_metric_stands_for_the_task() -> None:
    """The first that the policy names, else the accuracy: a curve never jumps from one metric to another."""
    scores = (evaluated(0, loss=2.0), evaluated(2, loss=1.0, accuracy=0.5))
    found = view(*scores)
    assert (found.metric_of(0), found.metric_of(1), found.metric, found.curve()) == (None, None, 0.5, [0.5])
    asked = view(*scores)
    asked.created = created(policy=policy(evaluation={"metrics": ("r2", "loss")}))
    assert (asked.metric_name, asked.metric, asked.curve()) == ("loss", 1.0, [2.0, 1.0])
    assert asked.metrics == {"loss": 1.0, "accuracy": 0.5}
    assert view().metric_name is None


def test_delta_is_the_policys_until_something_was_charged() -> None:
    """A plan is shown before the first charge, and nothing without privacy."""
    private = TaskView(TASK, created=created(policy=policy(privacy={"noise_multiplier": 1.0, "rho_max": 9.0})))
    assert private.created is not None
    assert private.created.policy.privacy is not None
    assert (private.delta, private.epsilon, private.rho) == (private.created.policy.privacy.delta, None, 0.0)
    assert view().delta is None


def test_a_withheld_charge_and_an_unknown_lease_stop_nothing() -> None:
    """A read model counts what it is given; whether it may be so is the audit's question."""
    found = view(
        RoundWithheld(task=TASK, round=3, participations_max=2, reason="budget"),
        LeaseClosed(task=TASK, lease="ab" * 16, device="d", outcome="expired", round=None),
        LeaseClosed(task=TASK, lease="cd" * 16, device="e", outcome="abandoned", round=None, reason="no_space"),
    )
    assert (dict(found.withheld), found.leases_expired, found.leases) == ({"budget": 1}, 1, {})
    assert found.leases_abandoned == {"no_space": 1}
