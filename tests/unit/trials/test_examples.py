"""The examples of docs/examples that need nothing but fedlog's own environment: federated, they reach a score."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client_agent.learning.layout import Layout, Model
from client_agent.learning.learner import Context
from client_agent.learning.opening import TaskLearner, initialize
from schemas.policy import parse
from tests.root import ROOT
from tests.trials.ecosystem.in_memory import DEVICES, EXAMPLES, train
from tests.worlds.builders import policy

LINES_MAX = 60
DEPLOYED_LINES_MAX = 100


# A notebook is read cell by cell; `make ecosystem` executes it.
@pytest.mark.parametrize(
    "path",
    sorted(path for path in EXAMPLES.iterdir() if path.is_file() and path.suffix != ".ipynb"),
    ids=lambda path: path.name,
)
def test_an_example_fits_on_one_screen(path: Path) -> None:
    """A reader takes it in at a glance."""
    assert len(path.read_text().splitlines()) <= LINES_MAX


def test_a_program_to_deploy_is_read_in_a_minute() -> None:
    """What is more than an example of one thing has a folder of its own, and a bound too."""
    lines = {path.name: len(path.read_text().splitlines()) for path in EXAMPLES.glob("*/*.py")}
    assert lines
    assert {name: count for name, count in lines.items() if count > DEPLOYED_LINES_MAX} == {}


@pytest.mark.parametrize(("name", "least"), [("softmax", 0.88), ("linear", 0.88)])
def test_an_example_learns(name: str, least: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """A learner of another framework trains over the real actors, on unevenly spread data, and every version counts."""
    monkeypatch.chdir(EXAMPLES)
    monkeypatch.setattr(sys, "path", [*sys.path])
    scores = train(parse((EXAMPLES / f"{name}.toml").read_text()), devices=DEVICES)
    assert scores[0]["accuracy"] < 0.2
    assert scores[-1]["accuracy"] >= least
    assert scores[-1]["loss"] < scores[0]["loss"]


def test_the_learner_of_the_readme_learns() -> None:
    """What README shows runs as it stands there, a number without dimensions included."""
    [source] = [
        block for block in (ROOT / "README.md").read_text().split("```python\n") if block.startswith("class Line")
    ]
    names: dict[str, Any] = {"np": np}
    exec(source.split("```")[0], names)
    x = np.random.default_rng(0).normal(size=(50, 2))
    data = x, x @ [2.0, -1.0] + 0.5
    parameters = initialize(names["Line"](), 0)
    layout = Layout.describe_parameters(parameters, averaged_scale=1.0)
    learner, vector = TaskLearner(names["Line"](), layout, parameters), np.zeros(layout.size, np.float32)
    for version in range(30):
        context = Context(version=version, seed=0, policy=policy())
        vector = vector + 0.3 * learner.train(Model(vector), data, context=context).delta
    assert learner.evaluate(Model(vector), data)["mse"] < 0.01


@pytest.mark.parametrize("name", ["rings.py", "rings.toml"])
def test_the_readme_shows_the_example_that_it_runs(name: str) -> None:
    """Guarantee: whoever copies the two files from README has those of `fedlog run docs/examples/rings.toml`."""
    assert (EXAMPLES / name).read_text() in (ROOT / "README.md").read_text()
