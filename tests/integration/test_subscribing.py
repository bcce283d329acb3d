"""`fedlog subscribe` on a real Kafka: at least once through real kills, and a clean end by Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.kafka.settings import KafkaSettings
from tests.root import ROOT
from tests.worlds.builders import TASK
from tests.worlds.published.announcing import describe_published, describe_rollout, publish, sign_as
from tests.worlds.stage import Stage, staged

# The process that runs the command is the parent of its shell.
DEADLY = "echo $FEDLOG_VERSION >> told; test -e $FEDLOG_VERSION || { touch $FEDLOG_VERSION; kill -9 $PPID; }"
WITHIN_S = 60.0


@pytest.fixture
def stage(kafka_settings: KafkaSettings, tmp_path: Path) -> Iterator[Stage]:
    """A deployment of one task with two versions, of which one is promoted; and a forgery between them."""
    with staged(kafka_settings, tmp_path) as stage:
        aggregator, rollout, stranger = (stage.role_key(role) for role in ("aggregator", "rollout", "evaluator"))
        publish(stage.log, sign_as(aggregator, describe_published(1)))
        publish(stage.log, sign_as(stranger, describe_published(66, seq=66)), b"junk")
        publish(stage.log, sign_as(aggregator, describe_published(2)))
        publish(stage.log, sign_as(rollout, describe_rollout("promoted", 3)))
        yield stage


def start(stage: Stage, *words: str) -> subprocess.Popen[str]:
    """`fedlog subscribe` in a process of its own, as a service runs it."""
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "ops.terminal.cli", *stage.options, "subscribe", TASK, *words],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=stage.folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_nothing_is_lost_by_kills_between_the_handler_and_the_position(stage: Stage) -> None:
    """Guarantee: at least once, on a real broker: SIGKILL after a command's work and before its end tells it again."""
    words = ("--from", "beginning", "--state", "position", "--exec", DEADLY)
    codes = []
    for count in ("3", "3", "3", "1"):
        process = start(stage, *words, "--count", count)
        output, errors = process.communicate(timeout=WITHIN_S)
        codes.append(process.returncode)
    assert codes == [-signal.SIGKILL] * 3 + [0], errors
    assert (stage.folder / "told").read_text().split() == ["1", "1", "2", "2", "3", "3"]
    # Only what was told in the last life, and the forgeries in no life.
    assert [line.split("  ")[2] for line in output.splitlines()] == ["promoted version 3"]


def test_an_interrupt_ends_it_in_order(stage: Stage) -> None:
    """Guarantee: Ctrl-C while it waits is no error, and says what was passed over; nobody is told twice afterwards."""
    words = ("--from", "beginning", "--state", "position")
    process = start(stage, *words)
    assert process.stdout is not None
    first = [process.stdout.readline() for _ in range(3)]
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=WITHIN_S)
    assert (process.returncode, rest) == (0, ""), errors
    told = [line.split("  ")[2] for line in first]
    assert told == ["published version 1", "published version 2", "promoted version 3"]
    assert "2 records were passed over" in errors
    assert "junk_skipped" in errors
