"""A rehearsal: rounds on this machine alone."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from fedlog.rehearsal import rehearse

POLICY = """
learner = "means_learner:Means"
[clipping]
norm = 100.0
[selection]
devices_expected = 4
concurrency = 4
[aggregation]
updates_per_round = 4
{weights}
[stop]
versions_max = 3
target_metric = "nearness"
target_value = 0.5
"""
LEARNER = """
import numpy as np
class Means:
    def initialize(self, seed): return {"mean": np.zeros(1)}
    def load(self, part): return [float(part.index)] * (part.index if part.split == "train" else 1)
    def train(self, start, data, *, context):
        context.state["n"] = context.state.get("n", 0) + 1
        return {"mean": np.mean(data, keepdims=True)}, {}
    def evaluate(self, parameters, data): return {"mean": parameters["mean"][0], "nearness": 0.0}
"""


@pytest.mark.parametrize(
    ("weights", "expected"),
    [("", 2.0), ('normalisation = "weight"\nsamples_max = 10', 14 / 6)],
    ids=["alike", "by samples"],
)
def test_a_round_is_the_mean_of_its_devices(tmp_path: Path, weights: str, expected: float) -> None:
    """Guarantee: devices count as the policy says, one without examples not at all; the process stays as it was."""
    (tmp_path / "means_learner.py").write_text(LEARNER)
    (tmp_path / "policy.toml").write_text(POLICY.format(weights=weights))
    before = Path.cwd(), list(sys.path)
    found = rehearse(tmp_path / "policy.toml", devices=4)
    assert (Path.cwd(), list(sys.path)) == before
    assert [round(scores["mean"], 4) for scores in found.curve] == [0.0, *[round(expected, 4)] * 3]
    assert np.allclose(found.arrays["mean"], expected)
    assert not found.is_on_target
