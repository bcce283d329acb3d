"""`fedlog archive`: what a person sees of it, and what a script gets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streams.memory import MemoryLog
from tests.unit.ops.terminal.conftest import Run
from tests.worlds.ops_journal import TASK
from tests.worlds.releasing.public_log import PublicLog


@pytest.fixture
def world() -> PublicLog:
    """A task with two versions."""
    world = PublicLog()
    for version in range(2):
        world.publish(version)
    return world


@pytest.fixture
def log(world: PublicLog) -> MemoryLog:
    """Its log, on which the command works."""
    return world.log


def test_versions_are_archived_and_checked(run: Run, tmp_path: Path) -> None:
    """Written once, told a line each, and found to be what the log says; a second run has nothing to do."""
    done = run("archive", "--to", tmp_path / "out")
    assert (done.exit_code, done.stdout.splitlines()) == (0, [f"{TASK} version {v}: archived" for v in range(2)])
    assert "2 versions written" in done.stderr
    assert run("archive", "--to", tmp_path / "out", "--json").stdout == ""
    checked = run("archive", "check", "--to", tmp_path / "out")
    assert checked.exit_code == 0
    assert "2 versions, 2 models compared with the log, 0 faults" in checked.stderr


def test_what_differs_is_named(run: Run, tmp_path: Path) -> None:
    """A script gets an object for each file and an exit code."""
    run("archive", "--to", tmp_path / "out")
    (tmp_path / "out" / TASK / "1" / "privacy.log").write_text("nothing\n")
    checked = run("archive", "--to", tmp_path / "out", "check", "--json")
    assert checked.exit_code == 1
    [finding] = [json.loads(line) for line in checked.stdout.splitlines()]
    assert (finding["file"], finding["finding"]) == (f"{TASK}/1/privacy.log", "differs")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "--to"),
        (("--to", "ftp://somewhere"), "s3://BUCKET/PREFIX"),
        (("--to", "s3://"), "s3://BUCKET/PREFIX"),
        (("--to", "out", "--endpoint", "http://127.0.0.1:1"), "--endpoint"),
        (("--to", "out", "--task", "No Name"), "no name of a task"),
    ],
)
def test_a_place_that_is_none_is_refused(run: Run, words: tuple[str, ...], told: str) -> None:
    """The message names the option and what it takes."""
    refused = run("archive", *words)
    assert refused.exit_code == 2
    assert told in refused.stderr


def test_a_folder_that_may_not_be_written_is_told_at_once(run: Run, tmp_path: Path) -> None:
    """Waiting would not help: the message names the place."""
    (tmp_path / "out").write_text("a file")
    refused = run("archive", "--to", tmp_path / "out")
    assert refused.exit_code == 1
    assert "out" in refused.stderr
