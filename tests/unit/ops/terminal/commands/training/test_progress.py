"""What is said while devices train: why they are declined, and a hint where nobody answers."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from client_agent.running.loop import Stats
from ops import console
from ops.history.prospects import STALL_S
from ops.history.task_view import TaskView, evolve
from ops.terminal.commands.training.progress import SILENCE_S_MAX, TrainingProgress, tell_end
from ops.terminal.errors import ConsoleError
from schemas.events import VersionEvaluated
from tests.worlds.builders import model_published, policy, task_created


@pytest.fixture
def now_s(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, to be moved."""
    now_s = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now_s[0])
    return now_s


def follow(stats: Stats, now_s: list[float], *, for_s: float) -> None:
    """The same counts for so long, asked every second."""
    progress = TrainingProgress("device for digits", read_clock_s=lambda: now_s[0])
    for _ in range(int(for_s)):
        now_s[0] += 1.0
        progress.follow(stats)


def test_where_nobody_answers_a_hint_says_what_to_look_at(
    capsys: pytest.CaptureFixture[str], now_s: list[float]
) -> None:
    """A worker that does not run, or another prefix, looks like patience otherwise; it is said once."""
    follow(Stats(devices=1, checked_in=3), now_s, for_s=5 * SILENCE_S_MAX)
    said = capsys.readouterr().err
    assert said.count("fedlog worker selector") == 1
    assert said.count("--topic-prefix") == 1


@pytest.mark.parametrize(
    "stats", [Stats(devices=1, checked_in=3, declined=1), Stats(devices=1, training=1, checked_in=1), Stats(devices=1)]
)
def test_an_answer_of_any_kind_makes_the_hint_needless(
    capsys: pytest.CaptureFixture[str], now_s: list[float], stats: Stats
) -> None:
    """Nor is there a hint for devices that have not asked yet."""
    follow(stats, now_s, for_s=5 * SILENCE_S_MAX)
    assert "worker selector" not in capsys.readouterr().err


def test_the_line_says_why_devices_are_declined(capsys: pytest.CaptureFixture[str], now_s: list[float]) -> None:
    """A count alone does not tell a wrong name from a full round."""
    follow(Stats(devices=1, checked_in=8, declined=8, declined_for="unknown_task"), now_s, for_s=10)
    assert "declined 8, declined_for unknown_task" in capsys.readouterr().err


FAILING = Stats(devices=9, checked_in=9, given_up=12, untrained=3, reasons={"NaN in 'flat'": 11, "labels": 4})


def test_the_line_says_why_most_leases_end_without_an_update(
    capsys: pytest.CaptureFixture[str], now_s: list[float]
) -> None:
    """A fleet that goes to NaN says so within seconds, and not after its end."""
    follow(FAILING, now_s, for_s=10)
    assert "given_up 12, untrained 3, because (11 ×) NaN in 'flat'" in capsys.readouterr().err


@pytest.mark.parametrize("as_json", [False, True])
def test_the_end_lists_every_reason(capsys: pytest.CaptureFixture[str], now_s: list[float], *, as_json: bool) -> None:
    """People read how often each reason occurred, and so do programs."""
    progress = TrainingProgress("fleet", read_clock_s=lambda: now_s[0])
    progress.follow(FAILING)
    progress.finish(as_json=as_json)
    said, listed = capsys.readouterr(), ["    11 × NaN in 'flat'", "     4 × labels"]
    if as_json:
        assert json.loads(said.out)["reasons"] == {"NaN in 'flat'": 11, "labels": 4}
        assert said.err.splitlines()[-2:] == listed
    else:
        assert said.out.splitlines()[1:] == listed


def test_a_run_that_trained_nothing_is_no_success(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 1 with the most common reason; leases that were given up beside others that were trained are no failure."""
    with pytest.raises(ConsoleError, match=r"Nothing was trained: 12 .* 3 .*\. Most often: NaN in 'flat'") as found:
        tell_end("dig", FAILING)
    assert found.value.exit_code == 1
    tell_end("dig", replace(FAILING, trained=1, closed=9))
    assert capsys.readouterr().err == "dig is over.\n"


def test_a_fleet_that_cannot_go_on_ends_with_the_reason(capsys: pytest.CaptureFixture[str], now_s: list[float]) -> None:
    """Guarantee: too few devices are told at once, and end the fleet with an error after some seconds.

    A name stays as it is at the beginning of a sentence, and of a fleet that has failed its number is not blamed.
    """
    view = TaskView("digits", created=task_created(policy(aggregation={"updates_per_round": 10})), noticed=True)
    progress = TrainingProgress("fleet", read_clock_s=lambda: now_s[0])
    stats = Stats(devices=5, checked_in=9, declined=9, trained=5, admitted=5)
    assert not progress.judge(replace(stats, failed=5), view)
    assert capsys.readouterr().err == ""
    assert not progress.judge(stats, view)
    assert "takes 10 devices a round" in capsys.readouterr().err
    now_s[0] += STALL_S + 1
    progress.follow(stats, view)
    assert progress.judge(stats, view)
    assert "takes 10" not in capsys.readouterr().err
    with pytest.raises(ConsoleError, match="digits takes 10 devices a round"):
        progress.end("digits", as_json=False)


def test_the_line_says_how_far_the_task_is(capsys: pytest.CaptureFixture[str], now_s: list[float]) -> None:
    """Version, percent and score stand first: counts of devices do not tell whether it learns."""
    view = TaskView("digits", created=task_created(policy(stop={"versions_max": 10})))
    for version in range(4):
        evolve(view, model_published(version), time_ms=1_000 * version)
    evolve(view, VersionEvaluated(task="digits", version=3, metrics={"accuracy": 0.75}, samples=9, cohort=""))
    progress = TrainingProgress("fleet", read_clock_s=lambda: now_s[0])
    now_s[0] += 10
    progress.follow(Stats(devices=5, checked_in=9), view)
    assert "version 3 of 10 (30 %, 7 s left), accuracy 0.75, checked_in 9" in capsys.readouterr().err
