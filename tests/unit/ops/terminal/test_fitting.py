"""Answers on a terminal: never wider than it is, short where digits say nothing, and whole in a pipe."""

from __future__ import annotations

import sys
from datetime import datetime, timedelta
from typing import Any

import pytest

from ops.history.tables.answers import Answer
from ops.terminal import fitting
from ops.terminal.fitting import fit, say_brief, say_table

NOON = datetime.fromisoformat("2026-11-26T12:00:00.005")
MEMBERS = {
    "device": "ab" * 16,
    "cohort": None,
    "base_version": 3,
    "weight": 0.512345678,
    "samples": 7,
    "update_id": "cd" * 16,
    "sha256": "ef" * 32,
    "topic": "rounds",
    "partition": 5,
    "offset": 28,
    "decided_at": NOON,
}


def answer(*rows: dict[str, Any]) -> Answer:
    """What a question came back with."""
    return Answer([*rows[0]], [""] * len(rows[0]), [tuple(row.values()) for row in rows], None)


def test_without_a_terminal_only_what_says_nothing_is_shortened() -> None:
    """Digests by their first digits, a place as one word, no empty column; every other column is there."""
    shown = fit(answer(MEMBERS), room=None)
    assert dict(zip(shown.columns, shown.rows[0], strict=True)) == {
        "device": "abababab…",
        "base_version": "3",
        "weight": "0.5123",
        "samples": "7",
        "update_id": "cdcdcdcd…",
        "sha256": "efefefef…",
        "decided_at": "12:00:00.005",
        "record": "rounds[5]@28",
    }
    assert shown.left_out == []


@pytest.mark.parametrize("room", [60, 80, 100])
def test_columns_that_have_no_room_are_named(room: int) -> None:
    """The least needed go first, until the table fits; what it says is who is in it, and how."""
    shown = fit(answer(MEMBERS), room=room)
    assert fitting._measure(shown.columns, shown.rows) <= room
    assert {*shown.columns, *shown.left_out} == {*fit(answer(MEMBERS), room=None).columns}
    assert {"device", "base_version", "weight"} <= {*shown.columns}


def test_times_of_two_days_keep_their_days() -> None:
    """Noon of today and noon of yesterday are not the same."""
    shown = fit(answer(MEMBERS, {**MEMBERS, "decided_at": NOON - timedelta(days=1)}), room=None)
    at = shown.columns.index("decided_at")
    assert [row[at] for row in shown.rows] == ["2026-11-26 12:00:00.005", "2026-11-25 12:00:00.005"]


def on_terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "dumb")


@pytest.mark.parametrize("columns", [80, 100, 140])
def test_no_line_is_wider_than_the_terminal(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a terminal, brief tables and whole ones fit; a whole one loses no digit, one row stands below the other."""
    on_terminal(monkeypatch, columns)
    say_brief(answer(MEMBERS))
    brief = capsys.readouterr()
    assert max(map(len, brief.out.splitlines())) <= columns
    assert ("No room for" in brief.err) == (columns < 140)
    say_table(answer(MEMBERS, MEMBERS))
    whole = capsys.readouterr().out
    assert max(map(len, whole.splitlines())) <= columns
    assert whole.count("ef" * 32) == 2
    assert "row 2" in whole


def test_a_pipe_gets_one_row_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """What `grep` and `awk` read does not depend on anybody's window."""
    say_table(answer(MEMBERS, MEMBERS))
    assert len(capsys.readouterr().out.splitlines()) == 3
