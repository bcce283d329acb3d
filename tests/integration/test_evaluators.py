"""Three evaluators on a real broker, one of which lies and one of which dies, and a model that gets worse."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from actors import keys
from client_agent.learning.allow_list import AllowList
from ops.services.evaluator import Evaluator
from schemas.canonical import decode, encode
from schemas.certificates import name_evaluator, parse_certified, read_certificate
from schemas.events import ModelPublished, Noticed, TaskHalted, VersionEvaluated
from schemas.topics import EVALUATIONS
from streams.kafka.settings import KafkaSettings
from streams.log import Draft, TopicPartition, scan
from tests.judges.logbook import read
from tests.places import home_of
from tests.root import ROOT
from tests.worlds.builders import policy
from tests.worlds.stage import PLAIN_ACTORS, Stage, staged

TASK, DEVICES = "sites", 4
PARTITION = home_of(TASK)
LEARNER = "sites:Sites"
# Two classes around two points, at two sites: one round learns them.
SITES = """
import numpy as np

class Sites:
    def initialize(self, seed): return {"flat": np.zeros(3)}
    def load(self, part):
        draw = np.random.default_rng([part.index, part.split == "test"])
        labels = draw.integers(0, 2, 100)
        x = draw.normal(size=(100, 2)) + 2.0 * (2 * labels - 1)[:, None]
        return {"x": np.c_[x, np.ones(100)], "labels": labels, "site": np.where(draw.random(100) < 0.4, "east", "west")}
    def train(self, start, data, context):
        flat = np.array(start["flat"], np.float64)
        for _ in range(20):
            guess = 1 / (1 + np.exp(-data["x"] @ flat))
            flat -= 0.5 * data["x"].T @ (guess - data["labels"]) / len(guess)
        return {"flat": flat}, {}
    def evaluate(self, parameters, data):
        return {"accuracy": float(((data["x"] @ parameters["flat"] > 0) == data["labels"]).mean())}
"""
RULES: dict[str, Any] = {
    "model": "",
    "learner": LEARNER,
    "selection": {"devices_expected": DEVICES, "concurrency": DEVICES, "retry_after_s": 0.2},
    "evaluation": {"quorum": 2, "disagreement_max": 0.05, "drop_max": 0.2, "cohort": "site"},
}


@contextlib.contextmanager
def running(stage: Stage, *words: str, key: Path | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A command beside the test, ended with it."""
    options = [*stage.options, *(["--role-key-file", str(key)] if key else [])]
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "ops.terminal.cli", *options, *words],
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{stage.folder}"},
        cwd=stage.folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def issue(stage: Stage, serial: int) -> tuple[Path, keys.RoleKey, str]:
    """The key of another evaluator, as a person issues it, and how that is called."""
    path = stage.folder / f"evaluator-{serial}.key"
    made = stage.fedlog("key", "issue", "--for", "evaluator", "--serial", str(serial), "--out", str(path))
    assert made.exit_code == 0, made.stderr
    key = keys.load_role(path, "evaluator")
    return path, key, name_evaluator(read_certificate(key.certificate).public_key)


def lie(stage: Stage, key: keys.RoleKey, name: str, *, version: int) -> None:
    """A certified evaluator that says of each good version that it is bad, and of bad ones that they are good."""
    told = VersionEvaluated(
        task=TASK,
        version=version,
        metrics={"accuracy": 1.0 if version > 2 else 0.0},
        samples=9,
        cohort="",
        evaluator=name,
    )
    value = key.signer.certify(encode(told))
    stage.log.append([Draft(topic=EVALUATIONS.name, partition=PARTITION, value=value, key=None)])


def list_words(stage: Stage) -> list[VersionEvaluated]:
    """All that evaluators have said."""
    records = scan(stage.log, TopicPartition(EVALUATIONS.name, PARTITION))
    return [decode(parse_certified(record.value or b"").payload, VersionEvaluated) for record in records]


def has_scored(stage: Stage, name: str, version: int) -> bool:
    """Whether this evaluator has said all of a version."""
    return any((one.evaluator, one.version, one.cohort) == (name, version, "") for one in list_words(stage))


def list_halts(stage: Stage) -> list[TaskHalted]:
    """Why the task has ended, if it has."""
    book = read(stage.log, PARTITION, operator=stage.key.public_key, deployment=stage.deployment)
    return [event for event in book.rounds.events(TaskHalted) if isinstance(event, TaskHalted)]


@pytest.mark.timeout(240)
def test_a_model_that_gets_worse_is_ended_by_a_quorum(
    kafka_settings: KafkaSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guarantee: one that lies ends nothing and hides nothing, one that dies goes on, and the fall is `regressed`."""
    (tmp_path / "sites.py").write_text(SITES)
    monkeypatch.syspath_prepend(str(tmp_path))
    with staged(kafka_settings, tmp_path) as stage, contextlib.ExitStack() as stack:
        stage.create_task(TASK, policy(**RULES), parameters=3)
        stage.start(*PLAIN_ACTORS)
        fleet = ("fleet", "--task", TASK, "--devices", str(DEVICES), "--processes", "1", "--allow", LEARNER)
        (ann_file, _, ann), (_, ben_key, ben), (_, eve_key, eve) = (issue(stage, serial) for serial in (1, 2, 3))
        # The console has its log go to a stream that is closed with it.
        structlog.reset_defaults()
        follow = ("evaluate", "--follow", "--allow", LEARNER)
        allowed = AllowList(names=frozenset({LEARNER}))
        with contextlib.closing(Evaluator(stage.log, key=ben_key, allowed=allowed)) as second:
            # Both honest ones train and score; the liar speaks first each time.
            with running(stage, *fleet), running(stage, *follow, key=ann_file) as first:
                stage.until_version(TASK, 0)
                lie(stage, eve_key, eve, version=0)
                stage.until(lambda: has_scored(stage, ann, 0), "a first score", timeout_s=60)
                # Wherever it was at this moment: in the middle of a version, or between two.
                first.kill()
                stage.until_version(TASK, 2)
            stack.enter_context(running(stage, *follow, key=ann_file))
            stack.enter_context(running(stage, *fleet, "--attack", "sign_flip:1:30", "--seed", "1"))
            stage.until_version(TASK, 4)
            for version in range(1, 5):
                lie(stage, eve_key, eve, version=version)

            def score() -> bool:
                second.wait(0.1)
                return [*second.step()] != [] or bool(list_halts(stage))

            stage.until(lambda: score() and list_halts(stage), "the end of the task", timeout_s=60)
            stage.until(lambda: has_scored(stage, ann, 4), "what was left to score", timeout_s=60)
        stage.until_lawful(PARTITION)
        check(stage, {ann, ben}, eve)


def check(stage: Stage, honest: set[str], liar: str) -> None:
    """What the log says in the end."""
    [halted] = list_halts(stage)
    assert halted.reason == "regressed"
    book = read(stage.log, PARTITION, operator=stage.key.public_key, deployment=stage.deployment)
    voices = [event.fact for event in book.rounds.events(Noticed) if isinstance(event.fact, VersionEvaluated)]
    assert {one.evaluator for one in voices} == {*honest, liar}
    assert len({(one.evaluator, one.version) for one in voices}) == len(voices)
    # The honest ones have the same data, and so the same scores: theirs are what the liar could not change.
    found: dict[int, float] = {one.version: one.metrics["accuracy"] for one in voices if one.evaluator in honest}
    assert max(found.values()) > 0.9
    assert found[max(found)] < 0.5
    newest = max(event.version for event in book.rounds.events(ModelPublished))
    words = list_words(stage)
    for name in honest:
        said = [(one.version, one.cohort) for one in words if one.evaluator == name]
        scored = sorted({version for version, _ in said})
        # Each once, the cohorts first, whatever was killed in between.
        assert said == [(version, cohort) for version in scored for cohort in ("east", "west", "")]
        assert scored[0] == 0
        assert max(scored) <= newest
