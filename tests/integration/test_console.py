"""The console on a real Kafka: what a person types, in order."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from ops.terminal.cli import app
from streams.kafka.settings import KafkaSettings
from tests.root import ROOT
from tests.worlds.stage import SHORT_DIGITS, reaching

Fedlog = Callable[..., Result]


def options(kafka: KafkaSettings, folder: Path) -> list[str]:
    """The test's own topics and folder."""
    return [*reaching(kafka), "--folder", str(folder)]


@pytest.fixture
def fedlog(kafka_settings: KafkaSettings, tmp_path: Path) -> Fedlog:
    """Runs one command to its end, in this process: a process for each would take longer than what it does."""
    return lambda *words: CliRunner().invoke(app, [*options(kafka_settings, tmp_path), *words])


def test_from_empty_topics_to_a_version_in_files(fedlog: Fedlog, kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    """Topics, key, task, an aggregator that is killed once, version 0 scored and exported, and chains that hold."""
    (tmp_path / "policy.toml").write_text(SHORT_DIGITS)
    missing = fedlog("topics", "check")
    assert missing.exit_code == 1
    assert "fedlog topics create" in missing.stderr
    assert fedlog("topics", "create").exit_code == 0
    assert fedlog("topics", "check").exit_code == 0
    assert fedlog("key", "create").exit_code == 0
    created = fedlog("task", "create", str(tmp_path / "policy.toml"), "--name", "digits")
    assert created.exit_code == 0, created.stderr
    assert "exists already" in fedlog("task", "create", str(tmp_path / "policy.toml"), "--name", "digits").stderr

    worker = subprocess.Popen(
        [sys.executable, "-m", "ops.terminal.cli", *options(kafka_settings, tmp_path), "worker", "aggregator"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=(tmp_path / "worker.err").open("wb"),
        start_new_session=True,
    )
    try:
        run_file = tmp_path / "run" / f"aggregator-{worker.pid}.json"
        _until(run_file.exists, 30)
        os.kill(json.loads(run_file.read_text())["child"], signal.SIGKILL)
        _until(lambda: json.loads(fedlog("task", "list", "--json").stdout)["version"] == 0, 60)
    finally:
        worker.terminate()
        worker.wait(60)
    assert not run_file.exists()

    scored = fedlog("evaluate", "--json")
    assert json.loads(scored.stdout)["version"] == 0, scored.stderr
    assert fedlog("evaluate", "--json").stdout == ""
    assert fedlog("model", "export", "--task", "digits", "--out", str(tmp_path / "out")).exit_code == 0
    assert (tmp_path / "out" / "weights.bin").stat().st_size == 4 * 650
    story = [json.loads(line)["event"] for line in fedlog("events", "--task", "digits", "--json").stdout.splitlines()]
    assert story[0] == "TaskCreated"
    assert {"Noticed TaskCreated", "ModelPublished", "VersionEvaluated"} <= set(story)
    verified = fedlog("verify")
    assert verified.exit_code == 0, verified.stderr


def test_a_cluster_that_is_not_there_is_named(tmp_path: Path) -> None:
    """Exit 3 within seconds, with the address, and no traceback."""
    nowhere = KafkaSettings(bootstrap_servers="127.0.0.1:1", topic_prefix="x")
    result = CliRunner().invoke(app, [*options(nowhere, tmp_path), "task", "list"])
    assert result.exit_code == 3
    assert "127.0.0.1:1" in result.stderr
    assert "Traceback" not in result.stderr


def _until(is_so: Callable[[], bool], timeout_s: float) -> None:
    give_up = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < give_up, "it did not happen in time"
        time.sleep(0.2)
