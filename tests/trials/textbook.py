"""FedAvg, FedBuff and FedAsync by their presets beside Flower's FedAvg: one split, one first model, a few seeds.

    python -m tests.trials.textbook [--seeds 3]

Every run of ours is deterministic, so that a row is the same when it is made again on the same machine. All train as
many updates. Flower lives in an environment of its own; its cohorts are drawn otherwise than ours.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np

import fedlog
from ops.operator import first_models
from ops.processes.running import read_policy, seed_all
from schemas.policy import Policy
from tests.bench import peer
from tests.root import ROOT
from tests.trials.results import add_row, commit

EXAMPLES = ROOT / "docs" / "examples"
POLICY = """
preset = "{preset}"
model = "rings:model"
data = "rings:data"
[training]
epochs = 5
learning_rate = 0.3
[selection]
devices_expected = 40
lease_s = 30.0
retry_after_s = 0.5
[stop]
versions_max = {versions}
"""
UPDATES = 400
PRESETS = ("fedavg", "fedbuff", "fedasync")
# Single versions swing by 0.01, so the end of a run is the mean of its last ones.
LAST = 3
# The held-out set has 500 points: by three seeds, methods that are closer cannot be told apart.
CLOSE = 0.015


def main() -> int:
    """Train each, add a row a method to docs/results/textbook.jsonl, and tell whether FedAvg is as good as Flower's."""
    parser = argparse.ArgumentParser(prog="python -m tests.trials.textbook")
    parser.add_argument("--seeds", type=int, default=3)
    seeds = range(1, 1 + parser.parse_args().seeds)
    commit()  # the one that runs, whatever is checked out at the end
    ends = {}
    with tempfile.TemporaryDirectory(prefix="fedlog-textbook-") as scratch:
        folder = Path(scratch)
        shutil.copy(EXAMPLES / "rings.py", folder)
        for preset in PRESETS:
            ends[preset] = _tell(preset, [_train(folder, preset, seed=seed) for seed in seeds])
        ends["flower"] = _tell(f"Flower {peer.FLOWER} FedAvg", _train_in_flower(folder, [*seeds]))
    gap = abs(ends["fedavg"] - ends["flower"])
    print(f"FedAvg here and in Flower: {gap:.4f} apart, at most {CLOSE}")  # noqa: T201
    return 0 if gap <= CLOSE else 1


def _tell(method: str, curves: list[list[float]]) -> float:
    """Add the row of a method; the mean of the last accuracies."""
    ends = [round(statistics.fmean(curve[-LAST:]), 4) for curve in curves]
    mean, spread = statistics.fmean(ends), statistics.stdev(ends) if len(ends) > 1 else 0.0
    means = [round(statistics.fmean(points), 4) for points in zip(*curves, strict=True)]
    add_row(
        "textbook", {"method": method, "updates": UPDATES, "accuracy": ends, "mean": round(mean, 4), "curve": means}
    )
    print(f"{method:22} {mean:.4f} ± {spread:.4f}  {ends}", flush=True)  # noqa: T201
    return mean


def _write_policy(folder: Path, preset: str, *, seed: int) -> tuple[Path, Policy]:
    versions = UPDATES if preset == "fedasync" else UPDATES // 10
    (file := folder / f"{preset}.toml").write_text(POLICY.format(preset=preset, versions=versions))
    return file, read_policy(file, seed_all(seed))


def _train(folder: Path, preset: str, *, seed: int) -> list[float]:
    """The accuracy of each version of a deterministic run."""
    file, _ = _write_policy(folder, preset, seed=seed)
    return list(fedlog.run(file, seed=seed, deterministic=True).curve)


def _train_in_flower(folder: Path, seeds: list[int]) -> list[list[float]]:
    """The same of each round in Flower, from the first models of our runs with these seeds."""
    for seed in seeds:
        _, policy = _write_policy(folder, "fedavg", seed=seed)
        first, arrays, at = first_models.make(policy), {}, 0
        for spec in first.tensors:
            arrays[spec.name] = first.vector[at : at + spec.size].reshape(spec.shape)
            at += spec.size
        np.savez(folder / f"start-{seed}.npz", **arrays)
    task = {
        "devices": policy.selection.devices_expected,
        "cohort": policy.aggregation.updates_per_round,
        "epochs": policy.training.epochs,
        "batch_size": policy.training.batch_size,
        "learning_rate": policy.training.learning_rate,
        "seeds": seeds,
    }
    (folder / "task.json").write_text(json.dumps(task))
    return list(peer.run("flower_rings.py", str(folder), str(policy.stop.versions_max))["curves"])


if __name__ == "__main__":
    sys.exit(main())
