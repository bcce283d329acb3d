"""A fleet that can go on for ever without a version ends, and says why; one that only waits does not."""

from __future__ import annotations

import pytest

from ops.history.prospects import STALL_S, UNSUCCESSFUL, Crew, Prospects, describe_failure, describe_missing
from ops.history.task_view import TaskView, evolve
from schemas.events import TaskHalted
from tests.worlds.builders import TASK, policy, task_created, update_admitted


def _view(k: int = 3, *, admitted: str = "") -> TaskView:
    view = TaskView(TASK, created=task_created(policy(aggregation={"updates_per_round": k})), noticed=True)
    for device in admitted:
        evolve(view, update_admitted(device))
    return view


def _judge(prospects: Prospects, view: TaskView, *, living: int = 5, trained: int = 0, lost: int = 0) -> str:
    return prospects.judge(Crew(living=living, trained=trained, lost=lost, reason="NaN in 'flat'"), view)


def test_a_fleet_of_which_nobody_can_train_ends() -> None:
    """Guarantee: when as many leases in a row gave nothing as there are devices, it is over, and the reason is told."""
    prospects = Prospects(read_clock_s=lambda: 0.0)
    assert _judge(prospects, _view(), lost=4) == ""
    verdict = _judge(prospects, _view(), lost=5)
    assert "no device has trained" in verdict
    assert verdict.endswith("Most often: NaN in 'flat'")


def test_some_who_can_train_are_not_denied() -> None:
    """Guarantee: where the others hold a round up, the verdict says who trained, and what the round lacks."""
    prospects = Prospects(read_clock_s=lambda: 0.0)
    assert _judge(prospects, _view(10, admitted="abcdefg"), living=20, trained=7, lost=13) == ""
    verdict = _judge(prospects, _view(10, admitted="abcdefg"), living=20, trained=7, lost=33)
    assert "the last 20 leases gave no update, after 7 trainings that did" in verdict
    assert "its round has 7 of 10 updates" in verdict
    assert "no device" not in verdict


def test_one_that_can_train_keeps_the_fleet_going() -> None:
    """Failures count from the last training on: some devices may fail for ever beside those that do not."""
    prospects = Prospects(read_clock_s=lambda: 0.0)
    for trained in range(1, 20):
        assert _judge(prospects, _view(), trained=trained, lost=4 * trained) == ""


def test_a_single_device_may_have_bad_luck() -> None:
    """A small fleet gets some tries, and no fleet at all is no judge."""
    assert _judge(Prospects(read_clock_s=lambda: 0.0), _view(1), living=1, lost=2) == ""
    assert _judge(Prospects(read_clock_s=lambda: 0.0), _view(1), living=1, lost=3) != ""
    assert _judge(Prospects(read_clock_s=lambda: 0.0), _view(1), living=0, lost=9) == ""


def test_a_task_with_too_few_devices_ends_the_fleet_after_some_seconds() -> None:
    """Guarantee: it says what is missing, once others had time to come; while updates come it waits."""
    now_s = [0.0]
    prospects = Prospects(read_clock_s=lambda: now_s[0])
    assert _judge(prospects, _view(10, admitted="abc")) == ""
    now_s[0] = STALL_S
    assert _judge(prospects, _view(10, admitted="abcd")) == ""
    now_s[0] = 2 * STALL_S
    assert _judge(prospects, _view(10, admitted="abcd")) == ""
    now_s[0] = 2 * STALL_S + 1
    assert "takes 10 devices a round" in _judge(prospects, _view(10, admitted="abcd"))


def test_devices_without_examples_end_the_fleet_after_some_seconds() -> None:
    """Guarantee: a selector that declines all for want of examples leaves nobody waiting; where enough fit, it goes on.

    And where all have failed, it is not said that there are too few of them.
    """
    now_s = [0.0]
    prospects, poor, enough, none = (
        Prospects(read_clock_s=lambda: now_s[0]),
        Crew(living=20, unfit=11, trained=0, lost=0),
        Crew(living=20, unfit=10, trained=0, lost=0),
        Crew(living=0, trained=0, lost=0),
    )
    view = _view(10)
    assert prospects.judge(poor, view) == ""
    now_s[0] = STALL_S + 1
    assert "11 of 20 here have too few examples (selection.samples_min)" in prospects.judge(poor, view)
    assert prospects.judge(enough, view) == ""
    assert prospects.judge(none, view) == ""


@pytest.mark.parametrize(
    ("k", "seen", "living", "missing"), [(10, "", 5, True), (10, "", 10, False), (3, "abc", 1, False)]
)
def test_devices_of_other_fleets_count(k: int, seen: str, living: int, missing: bool) -> None:
    """What the log has seen is there, whoever runs it; a task that is over lacks nobody."""
    view = _view(k, admitted=seen)
    assert bool(describe_missing(view, living=living)) is missing
    view.closed = True
    assert describe_missing(view, living=living) == ""


@pytest.mark.parametrize("reason", [*UNSUCCESSFUL, "versions_max", "target", "closed", "budget"])
def test_a_halt_that_is_no_success_is_told(reason: str) -> None:
    """Who waits for a fleet learns by its exit code that the task did not get where it should."""
    view = _view()
    assert describe_failure(view) == ""
    view.halted = TaskHalted(task=TASK, reason=reason, version=4)  # type: ignore[arg-type]
    assert bool(describe_failure(view)) is (reason in UNSUCCESSFUL)
