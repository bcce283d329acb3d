"""What the console prints: results on stdout, everything else on stderr."""

from __future__ import annotations

import json

import pytest

from ops import console
from ops.console import Progress, note, number, say, say_json, sparkline, table


def test_results_and_remarks_do_not_mix(capsys: pytest.CaptureFixture[str]) -> None:
    """A machine that reads stdout sees results alone."""
    say("result")
    note("remark")
    assert capsys.readouterr() == ("result\n", "remark\n")


def test_no_word_of_a_stranger_reaches_the_terminal_as_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    """Guarantee: control characters, half characters too, are named wherever they are printed; JSON stays JSON."""
    evil = "a\x1b[2J\x9b\ud800é"
    say(evil)
    note(evil)
    table(("id",), [(evil,)])
    said, remarked = capsys.readouterr()
    assert [*said.splitlines(), remarked.strip()] == [
        r"a\u001b[2J\u009b\ud800é",
        "id",
        *[r"a\u001b[2J\u009b\ud800é"] * 2,
    ]
    say_json({"id": evil})
    assert json.loads(capsys.readouterr().out) == {"id": evil}


def test_a_table_is_plain_columns_outside_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Columns are aligned, a missing cell is empty, and no line ends in blanks."""
    table(("name", "is"), [("a", None), ("longer", 12)])
    assert capsys.readouterr().out.splitlines() == ["name    is", "a", "longer  12"]


def test_numbers_are_short_and_missing_ones_empty() -> None:
    """Four significant digits by default."""
    assert (number(0.123456), number(2.0, 2), number(None)) == ("0.1235", "2", "")


def test_a_curve_goes_from_low_to_high() -> None:
    """The lowest value has the lowest bar; nothing gives nothing, and a flat curve does not divide by zero."""
    assert sparkline([0.0, 1.0]) == "▁█"
    assert (sparkline([]), len(sparkline([3.0, 3.0]))) == ("", 2)
    # A thousand versions still fit a line, and the curve is the same.
    assert sparkline([float(n // 250) for n in range(1000)]) == "▁" * 10 + "▃" * 10 + "▆" * 10 + "█" * 10


def test_progress_reports_changes_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same counts are said once, and new ones not before the interval has passed."""
    now_s = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now_s[0])
    progress = Progress("fleet")
    for at_s, admitted in ((1.0, 1), (6.0, 1), (20.0, 1), (21.0, 2), (23.0, 3)):
        now_s[0] = at_s
        progress.update({"devices": 9, "admitted": admitted, "refused": 0})
    assert capsys.readouterr().err.splitlines() == ["fleet: admitted 1", "fleet: admitted 2"]
    progress.finish(as_json=True)
    assert json.loads(capsys.readouterr().out) == {"devices": 9, "admitted": 3, "refused": 0}


def test_progress_without_counts_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """A run that was stopped before it began has no result."""
    Progress("fleet").finish(as_json=False)
    assert capsys.readouterr().out == ""
