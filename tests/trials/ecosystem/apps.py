"""The apps: where they are in Flower's repository, the digest of their source, and what has to come out."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from client_agent.learning.flower.apps import hash_app
from tests.root import ROOT

FLOWER = "https://github.com/adap/flower"
FLOWER_COMMIT = "fdef7afb1dca3030553be302366cfd285ed6632c"
DATA = Path(__file__).with_name("offline_data.py")

Scores = Sequence[Mapping[str, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A folder of Flower's examples, and the digest of its source."""

    path: str
    source_sha256: str

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class App(Example):
    """One that trains. `metric` is of the evaluator's score; it must get better by `least` from version 0 to the last.

    `report` is a metric of its clients, which the policy asks for.
    """

    metric: str
    least: float
    report: str = ""
    run_config: str = ""
    averaged_scale: float = 1.0

    def is_right(self, scores: Scores) -> bool:
        """Whether the model got better by as much as it must; a negative `least` is of a metric that must fall."""
        change = scores[-1][self.metric] - scores[0][self.metric]
        return change >= self.least if self.least >= 0 else change <= self.least


# Its clients answer a query with histograms of their flowers; fedlog asks them as a measure task.
ASKED = Example(
    path="quickstart-pandas", source_sha256="ec782e142787a748d8d5969e0f648550d8f4df7c3afdbd8bfbe053566a2ea25e"
)
APPS = (
    # Its clients add random numbers to a model and score it at random, as a list, of which nothing is kept.
    App(
        path="quickstart-numpy",
        source_sha256="760774941066261f558d54864f93a2455afc8ab2be0f4c40b278f40d2c24d3ee",
        metric="random_metric[0]",
        least=0,
    ),
    App(
        path="quickstart-sklearn",
        source_sha256="fdb296f5af6ebed3af42ff4dc2df6dcfaa532d73f4f53855f6b7d7fabf696e89",
        metric="accuracy",
        least=0.05,
        report="train_accuracy",
    ),
    App(
        path="quickstart-pytorch",
        source_sha256="1a37591df89ccbebcea64b0a0c59288842c4c29af12325583c553f88c4e89a45",
        metric="accuracy",
        least=0.2,
        report="train_loss",
        run_config="local-epochs=3 batch-size=8 learning-rate=0.01",
    ),
    App(
        path="fl-tabular",
        source_sha256="e4afbc559c0c13be74eac240fa4f4a027c28a7d49802641fc6163478b82baaf2",
        metric="accuracy",
        least=0.1,
    ),
    App(
        path="federated-vae",
        source_sha256="b4d49a5aa2f157f3a2436eb36200f8ab414387bfec4d7753a0ecef3a401d6a52",
        metric="loss",
        least=-0.001,
        run_config="learning-rate=0.01",
    ),
    App(
        path="flower-simulation-step-by-step-pytorch/my-awesome-app",
        source_sha256="d4a5685fc75fded3ed04beafc8e8af24922380719410c81fb9378ae0c2644583",
        metric="accuracy",
        least=0.2,
        report="train_loss",
    ),
)


def fetch_examples() -> Path:
    """Flower's examples at the commit, from its repository. Raises CalledProcessError where it cannot be reached."""
    folder = ROOT / "build" / "flower-examples" / FLOWER_COMMIT
    if not (folder / "examples").exists():
        folder.mkdir(parents=True, exist_ok=True)
        git = ["git", "-C", str(folder)]
        subprocess.run([*git, "init", "--quiet"], check=True)
        subprocess.run([*git, "fetch", "--quiet", "--depth=1", "--filter=blob:none", FLOWER, FLOWER_COMMIT], check=True)
        subprocess.run(
            [*git, "sparse-checkout", "set", *(f"examples/{app.path}" for app in (*APPS, ASKED))], check=True
        )
        subprocess.run([*git, "checkout", "--quiet", "FETCH_HEAD"], check=True)
    return folder / "examples"


def place(app: Example, folder: Path, *, examples: Path, environment: Path) -> Path:
    """A copy of the app with data and an environment. Raises ValueError where its source is another."""
    copy = shutil.copytree(examples / app.path, folder / "apps" / app.name)
    found = hash_app(str(copy)).hex()
    if found != app.source_sha256:
        raise ValueError(f"{app.name}: the source has the digest {found}, expected {app.source_sha256}")
    (copy / ".venv").symlink_to(environment)
    subprocess.run([str(environment / "bin" / "python"), str(DATA), str(copy)], check=True, stdin=subprocess.DEVNULL)
    return copy
