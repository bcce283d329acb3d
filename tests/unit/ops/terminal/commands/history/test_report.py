"""`fedlog report` from a log to a file: made whole or not at all, and as far checked as it says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from ops.settings import ENVIRONMENT, Settings
from ops.terminal.cli import app
from tests.tables import tell
from tests.worlds.ops_journal import write_key

Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs `fedlog` on the story, in a folder of its own."""
    monkeypatch.setattr(Settings, "log", lambda self, client_id="": tell().log)
    monkeypatch.chdir(tmp_path)
    write_key(tmp_path / ".fedlog" / "operator.key")
    for variable in ENVIRONMENT:
        monkeypatch.delenv(variable, raising=False)
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


def test_a_report_says_whether_it_was_checked(run: Run, tmp_path: Path) -> None:
    """Without --verify nothing is claimed; with it the page says what a full replay found."""
    page = tmp_path / "digits.html"
    made = run("report", "digits", "--html", page)
    assert made.exit_code == 0, made.output
    assert "not checked for this report" in page.read_text()
    made = run("report", "digits", "--html", page, "--verify")
    assert made.exit_code == 0, made.output
    assert "not checked for this report" not in page.read_text()
    assert "sums recomputed" in page.read_text()
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ""] == ["digits.html"]


def test_an_unknown_task_leaves_the_file_as_it_is(run: Run, tmp_path: Path) -> None:
    """A misspelt name is said, and yesterday's report stays."""
    page = tmp_path / "report.html"
    page.write_text("yesterday's")
    made = run("report", "digit", "--html", page)
    assert made.exit_code == 2
    assert page.read_text() == "yesterday's"
