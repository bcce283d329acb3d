"""The examples of docs/examples that need nothing but fedlog's own environment: federated, they reach a score."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from schemas.policy import parse
from tests.root import ROOT
from tests.trials.ecosystem.in_memory import train

EXAMPLES = ROOT / "docs" / "examples"
LINES_MAX = 60


@pytest.mark.parametrize("path", sorted(EXAMPLES.iterdir()), ids=lambda path: path.name)
def test_an_example_fits_on_one_screen(path: Path) -> None:
    """A reader takes it in at a glance."""
    assert len(path.read_text().splitlines()) <= LINES_MAX


@pytest.mark.parametrize(("name", "least"), [("softmax", 0.88), ("linear", 0.88)])
def test_an_example_learns(name: str, least: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """A learner of another framework trains over the real actors, on unevenly spread data, and every version counts."""
    monkeypatch.chdir(EXAMPLES)
    monkeypatch.setattr(sys, "path", [*sys.path])
    scores = train(parse((EXAMPLES / f"{name}.toml").read_text()), devices=20)
    assert scores[0]["accuracy"] < 0.2
    assert scores[-1]["accuracy"] >= least
    assert scores[-1]["loss"] < scores[0]["loss"]
