"""The console shows the same tasks whether it asks a history or folds the log, and says up to when it knows."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from ops.history.tables.duckdb_file import HistoryFile
from ops.history.tables.projector import Viewer
from ops.history.tables.serving import HistoryServer
from ops.history.tables.syncing import make_identity
from ops.settings import ENVIRONMENT, Settings
from ops.terminal.cli import app
from schemas.topics import TASKS
from streams.log import LogUnavailable
from streams.memory import MemoryLog
from tests.tables import tell
from tests.worlds.builders import KEY
from tests.worlds.ops_journal import append, created, write_key
from tests.worlds.story import told

Run = Callable[..., Result]
COMMANDS = [
    *(("task", "list", *form) for form in ((), ("--json",))),
    *(("task", "show", task, *form) for task in ("digits", "private-0") for form in ((), ("--json",))),
    *(("model", "list", "--task", task, *form) for task in ("digits", "private-0") for form in ((), ("--json",))),
]
# Nobody has founded the story's deployment.
VIEWER = Viewer(operator=KEY.public_key, deployment=None, is_operator=True)
UNTIL = "Known up to 2"


def _refuse(*_: Any, **__: Any) -> MemoryLog:
    raise LogUnavailable("no broker answers")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs `fedlog` on the story, in a folder of its own and without the environment's settings."""
    monkeypatch.setattr(Settings, "log", lambda self, client_id="": tell().log)
    monkeypatch.chdir(tmp_path)
    write_key(tmp_path / ".fedlog" / "operator.key")
    (tmp_path / ".fedlog").chmod(0o700)
    for variable in ENVIRONMENT:
        monkeypatch.delenv(variable, raising=False)
    return lambda *words: CliRunner().invoke(app, [*words])


def test_a_history_changes_no_word_on_the_screen(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Tables and JSON of every command: folded, out of the file, from the process that writes it, and without a log."""
    folded = [run(*words) for words in COMMANDS]
    assert [result.exit_code for result in folded] == [0] * len(COMMANDS)
    assert UNTIL not in folded[0].stderr
    path = tmp_path / ".fedlog" / "history.duckdb"
    assert run("history", "sync").exit_code == 0
    answers = [run(*words) for words in COMMANDS]
    monkeypatch.setattr(Settings, "log", _refuse)
    answers += [run(*words) for words in COMMANDS]
    with closing(HistoryFile(path, identity=make_identity(VIEWER))) as history, HistoryServer(path, history):
        answers += [run(*words) for words in COMMANDS]
    for words, before, answer in zip(3 * COMMANDS, 3 * folded, answers, strict=True):
        assert answer.stdout == before.stdout, words
        assert UNTIL in answer.stderr, words


def test_what_came_since_is_there_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A history that nobody is writing is brought up to the log first: a task that was just created is listed."""
    log = told().log
    monkeypatch.setattr(Settings, "log", lambda self, client_id="": log)
    assert run("history", "sync").exit_code == 0
    append(log, TASKS.name, created(task="newcomer"))
    assert "newcomer" in run("task", "list").stdout
    assert run("task", "show", "newcomer").exit_code == 0


def test_an_unknown_task_is_said_to_be_unknown(run: Run) -> None:
    """In the same words, with a history and without."""
    folded = run("task", "show", "nobody")
    run("history", "sync")
    known = run("task", "show", "nobody")
    assert (known.exit_code, folded.exit_code) == (1, 1)
    assert "no task 'nobody'" in known.stderr
    assert known.stderr.splitlines()[-1] == folded.stderr.splitlines()[-1]


def test_a_history_that_is_none_is_passed_over(run: Run, tmp_path: Path) -> None:
    """The log answers, as if there were no file."""
    (tmp_path / ".fedlog" / "history.duckdb").write_text("no database")
    result = run("task", "list")
    assert "digits" in result.stdout
    assert UNTIL not in result.stderr
