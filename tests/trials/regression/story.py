"""A fleet that makes one version bad by itself, an evaluator that scores what is there, and kills of whoever works.

Shared by `make regression` and by a short test of the suite. The devices' data turn bad from one version on, as when an
app labels examples wrongly since its update: nobody says a false score.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import psutil

from schemas.policy import Policy
from tests.root import ROOT
from tests.worlds.builders import policy
from tests.worlds.stage import ACTORS, Stage

TASK, LEARNER, PARAMETERS, DEVICES = "sites", "sites:Sites", 6, 4
EVALUATOR, MLFLOW = "evaluator", "mlflow"
# The app's update comes when this file is there: not before there is something that a bad version is worse than.
UPDATE = "update"
# Two classes around two points, seen at two sites; from a version on whoever trains at `west` has them mirrored.
SITES = """
import os
import time

import numpy as np

class Sites:
    def initialize(self, seed): return {{"flat": np.zeros({parameters})}}
    def load(self, part):
        draw = np.random.default_rng([part.index, part.split == "test"])
        labels, west = draw.integers(0, 2, 100), draw.random(100) < 0.5
        x = np.c_[draw.normal(size=(100, 2)) + 2.0 * (2 * labels - 1)[:, None], np.ones(100)]
        return {{"x": np.c_[x, x * west[:, None]], "labels": labels, "site": np.where(west, "west", "east")}}
    def train(self, start, data, context):
        labels = data["labels"]
        if context.version >= {planted} - 1:
            while not os.path.exists("{update}"):
                time.sleep(0.05)
            labels = np.where(data["site"] == "west", 1 - labels, labels)
        flat = np.array(start["flat"], np.float64)
        for _ in range(20):
            guess = 1 / (1 + np.exp(-data["x"] @ flat))
            flat -= 0.5 * data["x"].T @ (guess - labels) / len(guess)
        return {{"flat": flat}}, {{}}
    def evaluate(self, parameters, data):
        return {{"accuracy": float(((data["x"] @ parameters["flat"] > 0) == data["labels"]).mean())}}
"""


def write_learner(planted: int) -> str:
    """The module of a learner whose data are bad from this version on."""
    return SITES.format(parameters=PARAMETERS, planted=planted, update=UPDATE)


def make_rules(planted: int) -> Policy:
    """Private with hardly any noise, so that each actor has its part; it ends with the version that is bad."""
    gates = [
        *({"metric": "accuracy", "cohort": site, "drop_max": 0.1} for site in ("west", "east")),
        {"metric": "accuracy", "drop_max": 0.1},
        {"metric": "accuracy", "gap_max": 0.3},
    ]
    return policy(
        model="",
        learner=LEARNER,
        selection={"devices_expected": DEVICES, "concurrency": DEVICES, "retry_after_s": 0.2, "lease_s": 300.0},
        # A round takes updates from the newest version alone: the bad one is of bad updates, and none before it.
        staleness={"rule": "constant", "max_versions": 0},
        privacy={"noise_multiplier": 0.01, "rho_max": 1e6},
        evaluation={"quorum": 1, "cohort": "site", "metric": "accuracy"},
        rollout={"stages": [{"share": 0.25, "hold_s": 0.2}, {"share": 0.5, "hold_s": 0.2}], "gates": gates},
        stop={"versions_max": planted},
    )


class Commands:
    """Commands of the console beside a trial, by name, each in a session of its own; what they say goes into files."""

    def __init__(self, stage: Stage, library: Sequence[Path] = ()) -> None:
        self._stage, self._paths = stage, [ROOT, stage.folder, *library]
        self._children: dict[str, tuple[Sequence[str], subprocess.Popen[bytes]]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for name in [*self._children]:
            self.end(name)

    def start(self, name: str, words: Sequence[str]) -> None:
        """Start one under a name of its own."""
        with (self._stage.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "ops.terminal.cli", *self._stage.options, *words],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, self._paths))},
                cwd=self._stage.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._children[name] = words, process

    def end(self, name: str) -> Sequence[str]:
        """SIGKILL, with all that it has started; the words that it was started with."""
        words, process = self._children.pop(name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return words

    def read_log(self, name: str) -> str:
        """What one has said in all of its lives."""
        return (self._stage.folder / f"{name}.log").read_text()


class Story:
    """A deployment in which version `planted` gets bad."""

    def __init__(self, stage: Stage, *, planted: int, seed: int, library: Sequence[Path] = ()) -> None:
        self.stage, self.planted, self.draw = stage, planted, random.Random(seed)
        self.kills: dict[str, int] = {}
        self.commands = Commands(stage, library)
        (stage.folder / "sites.py").write_text(write_learner(planted))

    @contextlib.contextmanager
    def begin(self, **beside: Sequence[str]) -> Iterator[None]:
        """Task, workers, fleet and evaluator, and the commands of `beside` by name, until the end of the block."""
        self.stage.create_task(TASK, make_rules(self.planted), parameters=PARAMETERS)
        workers = self.stage.start("rollout", *ACTORS)
        self._workers = {worker.actor: worker for worker in workers}
        allowed = ("--allow", LEARNER)
        fleet = ("fleet", "--task", TASK, "--devices", str(DEVICES), "--processes", "1", *allowed)
        evaluate = ("evaluate", "--follow", "--task", TASK, *allowed)
        with self.commands:
            for name, words in {"fleet": fleet, EVALUATOR: evaluate, **beside}.items():
                self.commands.start(name, words)
            yield

    def kill(self, name: str) -> None:
        """SIGKILL a worker's child, whose supervisor starts another, or one of the commands, which starts again."""
        self.kills[name] = self.kills.get(name, 0) + 1
        if (worker := self._workers.get(name)) is not None:
            self.stage.until(lambda: worker.child() is not None, f"{name} lives", timeout_s=60.0)
            with contextlib.suppress(psutil.NoSuchProcess):
                if (child := worker.child()) is not None:
                    child.kill()
            return
        self.commands.start(name, self.commands.end(name))

    def train(self, *, kills: Sequence[str]) -> None:
        """Let it come to the bad version; whoever is named in `kills` dies on the way, in this order."""
        places = sorted(self.draw.randint(1, self.planted - 1) for _ in kills)
        for name, version in zip(kills, places, strict=True):
            self.stage.until_version(TASK, version, timeout_s=180.0)
            self.kill(name)
        self.stage.until(lambda: self.show()["promoted"], "a first promotion", timeout_s=180.0)
        (self.stage.folder / UPDATE).touch()
        self.stage.until_version(TASK, self.planted, timeout_s=180.0)

    def until_back(self, *, then: Callable[[], object] = lambda: True) -> dict[str, Any]:
        """Wait until the bad version was rolled back, and nothing is tried any more; how the rollout stands."""

        def is_back() -> bool:
            shown = self.show()
            back = shown["last_rollback"] or {}
            return back.get("version") == self.planted and shown["candidate"] is None and bool(then())

        self.stage.until(is_back, f"the rollback of version {self.planted}", timeout_s=120.0)
        return self.show()

    def show(self) -> dict[str, Any]:
        """How the rollout stands."""
        told: dict[str, Any] = json.loads(self._run("rollout", "show", TASK, "--json"))
        return told

    def query(self, sql: str) -> list[dict[str, Any]]:
        """The rows of `fedlog query`."""
        return [json.loads(line) for line in self._run("query", sql, "--json").splitlines()]

    def _run(self, *words: str) -> str:
        done = self.stage.fedlog(*words)
        assert done.exit_code == 0, f"{words}: {done.stdout}{done.stderr}"
        return str(done.stdout)
