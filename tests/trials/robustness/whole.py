"""The same training through the whole log, by virtual time: what the arena leaves out must not make the difference."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from ops.processes.running import RunOptions
from ops.settings import resolve
from ops.virtual.running import VirtualRun
from tests.trials.robustness.arena import HABITS, LAST
from tests.trials.robustness.cells import DEVICES, Cell

RULES, ATTACKS = ("mean", "median", "trimmed_mean"), ("", "sign_flip", "alie")


def list_whole() -> list[Cell]:
    """Those that are trained in both ways."""
    return [Cell("digits", rule, attack, 0.1 if attack else 0.0, 1) for rule in RULES for attack in ATTACKS]


def fight_on_the_log(cell: Cell) -> dict[str, Any]:
    """Train a cell by `fedlog run --deterministic`; its accuracy, the mean of the last versions."""
    with tempfile.TemporaryDirectory(prefix="fedlog-robustness-") as scratch:
        folder = Path(scratch)
        (folder / "habits.toml").write_text("".join(f"{name} = {value}\n" for name, value in HABITS.items()))
        options = RunOptions(
            policy=cell.policy,
            name="attacked",
            devices=DEVICES,
            cwd=folder,
            simulate=folder / "habits.toml",
            attack=cell.hostility,
        )
        with VirtualRun(resolve({"folder": folder / "state"}), options) as run:
            *_, state = run.follow()
        return {"whole": round(float(np.mean(state.curve()[-LAST:])), 4)}
