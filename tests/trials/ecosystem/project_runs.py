"""Six small projects as newcomers write them, each by `fedlog run` in a folder of its own; called by `__main__`.

Beside the score each log is replayed in full, and what the project is about is looked at: frozen weights, statistics of
a batch normalisation, arrays of the devices' own.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tests.root import ROOT
from tests.trials.results import add_row

FOLDER = Path(__file__).with_name("projects")
PATIENCE_S = 900.0
# How much worse than on all examples in one place: two federated versions differ as much.
CENTRAL_MARGIN = 0.04

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A policy in a folder of `projects`, and what has to come out.

    `least`: of `metric`, as the devices say where they are `asked`, else as the evaluator does; below zero it is at
    most that. `before`: a script that runs first. `frozen`: what may not move by a bit. `central`: a script that prints
    the score of the same model where all examples lie in one place.
    """

    policy: str
    metric: str
    least: float
    before: str = ""
    central: str = ""
    frozen: str = ""
    asked: bool = False

    @property
    def title(self) -> str:
        return f"project-{self.policy.replace('/', '-').removesuffix('.toml')}"

    def is_reached(self, score: float) -> bool:
        """Whether this is good enough."""
        return score <= -self.least if self.least < 0 else score >= self.least


PROJECTS = (
    Project(policy="regression/patients.toml", metric="r2", least=0.35),
    Project(policy="characters/letters.toml", metric="perplexity", least=-20.0),
    Project(policy="pictures/averaged.toml", metric="accuracy", least=0.9, central="pictures.py"),
    Project(policy="pictures/own.toml", metric="accuracy", least=0.9, asked=True),
    Project(policy="adapters/lora.toml", metric="perplexity", least=-60.0, before="base.py", frozen=r"^(?!.*lora_)"),
    Project(policy="classifier/wines.toml", metric="accuracy", least=0.9),
    Project(policy="personal/heads.toml", metric="accuracy", least=0.9, asked=True),
)


def try_all(only: str) -> Iterator[tuple[str, bool]]:
    """Run each whose title has `only` in it; add a row for each, and tell whether it came out right."""
    for project in PROJECTS:
        if only in project.title:
            yield project.title, _try(project)


def _try(project: Project) -> bool:
    begun_s = time.monotonic()
    print(f"{project.title} …", flush=True)  # noqa: T201
    with tempfile.TemporaryDirectory(prefix="fedlog-project-") as scratch:
        folder = Path(shutil.copytree(FOLDER / Path(project.policy).parent, Path(scratch, "project")))
        try:
            told = _Attempt(project, folder).run()
            is_right = not told["wrong"]
        except Exception as error:  # noqa: BLE001
            told, is_right = {"error": f"{type(error).__name__}: {error}"[:2000]}, False
    add_row("ecosystem", {"project": project.title, "right": is_right, **told, "seconds": _since(begun_s)})
    print(f"  {'right' if is_right else 'WRONG'} {told}", flush=True)  # noqa: T201
    return is_right


def _since(begun_s: float) -> float:
    return round(time.monotonic() - begun_s, 1)


@dataclass
class _Attempt:
    """One project in a copy of its folder, in which all that it needs is started and ended."""

    project: Project
    folder: Path
    wrong: list[str] = field(default_factory=list)

    def run(self) -> dict[str, Any]:
        """The scores, and what is wrong with them. Raises RuntimeError where a command fails."""
        if self.project.before:
            self._execute(sys.executable, self.project.before)
        task = (file := self.folder / Path(self.project.policy).name).stem
        try:
            ran = json.loads(self._fedlog("run", file.name, "--json", "--keep"))
            replayed = self._fedlog("replay", "--full")
            score = self._ask(task) if self.project.asked else self._read_score(ran)
            self._check_arrays(task, last=ran["version"])
        finally:
            self._fedlog("stop")
        if "identical" not in replayed:
            self.wrong.append(replayed[-300:])
        if not self.project.is_reached(score):
            self.wrong.append(f"{self.project.metric} {score}, expected {self.project.least}")
        central = self._compare(score)
        keys = ("version", "curve", "device_metrics")
        return {self.project.metric: score, **central, **{key: ran[key] for key in keys}, "wrong": self.wrong}

    def _read_score(self, ran: dict[str, Any]) -> float:
        """The evaluator's. Raises RuntimeError, with what it has said, where it gave none."""
        if (score := ran["metrics"].get(self.project.metric)) is None:
            told = (self.folder / ".fedlog" / "logs" / "evaluator.log").read_text(errors="replace")
            raise RuntimeError(f"no {self.project.metric} in {ran['metrics']}; the evaluator said: {told[-1500:]}")
        return float(score)

    def _compare(self, score: float) -> dict[str, float]:
        """The score beside that of one place."""
        if not self.project.central:
            return {}
        central = float(self._execute(sys.executable, self.project.central))
        if score < central - CENTRAL_MARGIN:
            self.wrong.append(f"{score}, where one place gives {central}")
        return {"central": central}

    def _ask(self, task: str) -> float:
        """What the devices say of the last version, each with what it keeps for itself."""
        asked = self._execute(*self._words("measure", task), told=2)
        [command] = re.findall(r"`(fedlog fleet [^`]+)`", asked.replace("\n", " "))
        self._fedlog(*shlex.split(command)[1:])
        shown = json.loads(self._fedlog("task", "show", task, "--json"))
        return float(shown["measurements"][0]["scores"][self.project.metric]["over_devices"])

    def _check_arrays(self, task: str, *, last: int) -> None:
        """What is frozen, and statistics: compared between version 0 and the last."""
        first, newest = self._export(task, 0), self._export(task, last)
        still = {name for name, array in newest.items() if array.tobytes() == first[name].tobytes()}
        # Others may stand still too: no gradient reaches a bias ahead of a batch normalisation.
        frozen = {name for name in newest if self.project.frozen and re.search(self.project.frozen, name)}
        if moved := frozen - still:
            self.wrong.append(f"{sorted(moved)[:3]} moved, which are frozen")
        if still == newest.keys():
            self.wrong.append("nothing has moved")
        for name, array in newest.items():
            if not np.isfinite(array).all() or (name.endswith("running_var") and (array <= 0).any()):
                self.wrong.append(f"{name} holds {array.min()} to {array.max()}")

    def _export(self, task: str, version: int) -> Arrays:
        out = f"version-{version}"
        self._fedlog("model", "export", "--task", task, "--version", str(version), "--format", "npz", "--out", out)
        with np.load(self.folder / out / "model.npz") as archive:
            return dict(archive)

    def _fedlog(self, *words: str) -> str:
        return self._execute(*self._words(*words))

    def _words(self, *words: str) -> list[str]:
        return [sys.executable, "-P", "-m", "ops.terminal.cli", *words]

    def _execute(self, *words: str, told: int = 1) -> str:
        """What a command said, on standard output or on standard error. Raises RuntimeError where it fails."""
        done = subprocess.run(
            words,
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(words[-4:])}: {done.stdout[-500:]}{done.stderr[-1500:]}")
        return done.stderr if told == 2 else done.stdout
