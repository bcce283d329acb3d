"""`fedlog subscribe`: lines for people and programs, and commands that are run until they are content."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ops.operator import models
from ops.terminal.commands.serving import subscribe
from streams.log import TopicPartition
from streams.memory import MemoryLog
from tests.unit.ops.terminal.conftest import Run
from tests.worlds.builders import TASK
from tests.worlds.ops_journal import PLACE
from tests.worlds.published.announcing import announce_rollout, announce_version, publish

ALL = ("--from", "beginning")


def test_a_line_for_people_and_one_for_programs(run: Run, log: MemoryLog) -> None:
    """Guarantee: what happened to which version, and of a rollback what it went back to and why."""
    publish(log, announce_version(0), announce_rollout("promoted", 1), announce_rollout("rolledback", 1, seq=1))
    told = run("subscribe", *ALL, "--count", 3).stdout.splitlines()
    assert [line.split("  ")[1:3] for line in told] == [
        [TASK, "published version 0"],
        [TASK, "promoted version 1"],
        [TASK, "rolled back version 1, now version 0 (drop)"],
    ]
    plain = run("subscribe", TASK, "--promoted", *ALL, "--count", 1, "--json").stdout
    assert json.loads(plain)["id"] == f"{TASK}/1/promoted/0"


def test_a_command_that_fails_is_run_again_and_nothing_is_left_out(
    run: Run, log: MemoryLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guarantee: the next announcement waits until the command has ended with 0, and each failure is said."""
    waits: list[float] = []
    monkeypatch.setattr(subscribe, "sleep", waits.append)
    publish(log, announce_version(0), announce_rollout("rolledback", 1, to=0))
    failing = 'echo "$FEDLOG_VERSION $FEDLOG_WITHDRAWN" >> tries; test $(wc -l < tries) -gt 2 && cat >> done'
    result = run("subscribe", *ALL, "--count", 2, "--exec", failing, "--state", "position")
    assert result.exit_code == 0, result.stderr
    assert Path("tries").read_text().splitlines() == ["0 ", "0 ", "0 ", "0 1"]
    told = [json.loads(line) for line in Path("done").read_text().replace("}{", "}\n{").splitlines()]
    assert [one["id"] for one in told] == [f"{TASK}/0", f"{TASK}/1/rolledback/0"]
    assert waits == [1.0, 2.0]
    assert result.stderr.count("exit code 1; again in") == 2
    assert run("subscribe", *ALL, "--count", 0, "--state", "position", "--exec", "false", "--bad").exit_code == 2


def test_a_command_finds_the_model_beside_the_event(run: Run, log: MemoryLog) -> None:
    """Guarantee: checked bytes in a file; one that retention has deleted is said, and holds nothing up."""
    flat = np.arange(6, dtype=np.float32)
    refs = [models.store(log, flat * factor, partition=PLACE) for factor in (1, 2)]
    log.delete_records(TopicPartition("models", PLACE), 1)
    publish(log, *(announce_version(number, model=ref) for number, ref in enumerate(refs)))
    command = 'echo "$FEDLOG_VERSION:$FEDLOG_MODEL" >> seen'
    result = run("subscribe", *ALL, "--count", 2, "--exec", command, "--models", "models")
    assert result.exit_code == 0, result.stderr
    first, second = Path("seen").read_text().splitlines()
    assert first == "0:"
    assert np.array_equal(np.fromfile(second.removeprefix("1:"), "<f4"), flat * 2)
    assert "told without its model" in result.stderr


def test_wrong_words_are_named(run: Run) -> None:
    """Guarantee: exit 2 before anything is followed."""
    assert "--from yesterday" in run("subscribe", "--from", "yesterday").stderr
    assert run("subscribe", "No Name").exit_code == 2
