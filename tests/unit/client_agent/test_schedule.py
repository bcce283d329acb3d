"""When a device speaks next, call by call."""

from __future__ import annotations

from itertools import pairwise

import pytest

from client_agent.schedule import ANSWER_MS, ANSWER_MS_MAX, OVER_MS, REST_MS, UNKNOWN_MS, Schedule


def schedule(*updates: str, device: str = "phone") -> Schedule:
    return Schedule(device, "digits", updates=updates)


def test_an_unanswered_check_in_is_repeated_ever_more_slowly() -> None:
    """Guarantee: each wait is about twice the one before, up to a bound, and an answer starts again at the first."""
    times, waits = schedule(), []
    for _ in range(8):
        times.note_checkin(0)
        waits.append(times.checkin_ms)
    assert ANSWER_MS <= waits[0] <= 1.25 * ANSWER_MS
    assert all(one < other for one, other in pairwise(waits[:4]))
    assert max(waits) <= 1.25 * ANSWER_MS_MAX
    times.note_grant()
    times.note_checkin(0)
    assert times.checkin_ms <= 1.25 * ANSWER_MS


@pytest.mark.parametrize(("reason", "wait_ms"), [("no_slot", 1_000), ("closed", OVER_MS), ("participations", OVER_MS)])
def test_a_reason_that_lasts_makes_the_wait_long(reason: str, wait_ms: int) -> None:
    """Guarantee: a declined device waits as it was told, and longer where it would meet the same reason again."""
    times = schedule()
    times.note_declined(reason, retry_after_ms=1_000, now_ms=500)
    assert wait_ms <= times.checkin_ms - 500 <= 1.25 * wait_ms


def test_a_selector_that_does_not_know_the_task_yet_is_asked_soon() -> None:
    """Guarantee: the first work of a task does not wait for a selector's patience; one that never knows it is spared.

    Another reason in between begins anew.
    """
    times, waits = schedule(), []
    for _ in range(6):
        times.note_declined("unknown_task", retry_after_ms=2_000, now_ms=0)
        waits.append(times.checkin_ms)
    for number, wait_ms in enumerate(waits):
        told_ms = min(2_000, UNKNOWN_MS << number)
        assert told_ms <= wait_ms <= 1.25 * told_ms
    times.note_declined("no_slot", retry_after_ms=1_000, now_ms=0)
    times.note_declined("unknown_task", retry_after_ms=2_000, now_ms=0)
    assert times.checkin_ms <= 1.25 * UNKNOWN_MS


def test_a_kept_update_is_due_at_once() -> None:
    """Guarantee: what an earlier run of the device has kept is sent as soon as the device starts."""
    times = schedule("u1")
    assert times.is_tracking("u1")
    assert times.find_resend_ms("u1") == 0


def test_a_submitted_update_is_repeated_until_its_outcome() -> None:
    """Guarantee: repeats come ever more slowly; storing the body counts as none; the outcome ends them."""
    times, waits = schedule(), []
    times.send_at_once("u1", 0)
    times.await_address("u1", 0)
    stored = times.find_resend_ms("u1")
    for _ in range(4):
        times.await_outcome("u1", 0)
        waits.append(times.find_resend_ms("u1"))
    assert stored <= 1.25 * ANSWER_MS
    assert ANSWER_MS <= waits[0] <= 1.25 * ANSWER_MS
    assert all(one < other for one, other in pairwise(waits))
    times.note_outcome("u1", 100)
    assert not times.is_tracking("u1")
    assert REST_MS <= times.checkin_ms - 100 <= 1.25 * REST_MS


def test_devices_declined_together_do_not_return_together() -> None:
    """Guarantee: each device spreads its waits by up to a quarter, drawn from its own name."""
    times = [schedule(device=f"phone{number}") for number in range(50)]
    for one in times:
        one.note_declined("no_slot", retry_after_ms=10_000, now_ms=0)
    returns = {one.checkin_ms for one in times}
    assert len(returns) > 40
    assert max(returns) - min(returns) > 1_500


def test_a_device_that_is_always_late_asks_ever_more_slowly() -> None:
    """Guarantee: training that outlasts its leases costs ever less, up to a bound, and one update in time ends that."""
    times, waits = schedule(), []
    for _ in range(8):
        times.note_outcome("u1", 0, is_late=True)
        waits.append(times.checkin_ms)
    assert ANSWER_MS <= waits[0] <= 1.25 * ANSWER_MS
    assert all(one < other for one, other in pairwise(waits[:4]))
    assert ANSWER_MS_MAX <= max(waits) <= 1.25 * ANSWER_MS_MAX
    times.note_outcome("u2", 0)
    assert times.checkin_ms <= 1.25 * REST_MS
