"""What is said while devices train: why they are declined, and a hint where nobody answers."""

from __future__ import annotations

import pytest

from client_agent.running.loop import Stats
from ops import console
from ops.terminal.commands.training.progress import SILENCE_S_MAX, TrainingProgress


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
