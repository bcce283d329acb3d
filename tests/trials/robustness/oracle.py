"""`make byzfl`: every rule beside ByzFL's on random and on adversarial rounds, into docs/results/byzfl.jsonl.

    PYTHONPATH=build/byzfl/python python -m tests.trials.robustness.oracle [--rounds 300]

Where definitions differ, the paper decides, and ByzFL is asked for the same: `ASKED` says how.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
from collections import Counter
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from actors.deciders.arithmetic import robust
from client_agent.hostile import vectors
from tests.trials.results import add_row, commit
from tests.trials.robustness.minority import Member, Members

KIND, VERSION = "byzfl", "0.0.11"
# The finest grid that a policy may have: what ByzFL computes in float64 is compared as a share of the clip.
CLIP = 1 << 21
WEIGHT = 1 << 20
APART_MAX = 1e-6
RADIUS, ITERATIONS = 0.1, 3
Rows = npt.NDArray[np.float64]
KINDS = ("random", "sparse", "alike", "sign_flip", "alie", "ipm", "far", "copies")

# In the paper a score is of the n - f - 2 nearest others (Blanchard et al. 2017); ByzFL has n - f - 1 of them, and its
# Multi-Krum takes n - f: with f + 1 it is the paper's.
ASKED: dict[str, Callable[[Any, int, int], Any]] = {
    "median": lambda byzfl, n, f: byzfl.Median(),
    "trimmed_mean": lambda byzfl, n, f: byzfl.TrMean(f),
    "krum": lambda byzfl, n, f: byzfl.Krum(f + 1),
    "multi_krum": lambda byzfl, n, f: byzfl.MultiKrum(f + 1),
    "centered_clipping": lambda byzfl, n, f: byzfl.CenteredClipping(L=ITERATIONS, tau=RADIUS),
}
OURS: dict[str, Callable[[Members, int, int], npt.NDArray[np.int64]]] = {
    "median": lambda members, n, f: robust.median(members),
    "trimmed_mean": lambda members, n, f: robust.trim_mean(members, f=f),
    "krum": lambda members, n, f: robust.krum(members, f=f),
    "multi_krum": lambda members, n, f: robust.krum(members, f=f, selected=n - f - 1),
    "centered_clipping": lambda members, n, f: robust.clip_centered(
        members, radius=round(RADIUS * CLIP), iterations=ITERATIONS
    ),
}


def main() -> int:
    """Compare, add a row a rule, and tell whether all agree."""
    parser = argparse.ArgumentParser(prog="python -m tests.trials.robustness.oracle")
    parser.add_argument("--rounds", type=int, default=300)
    count = parser.parse_args().rounds
    commit()
    byzfl, fine = load_byzfl(), True
    for rule in OURS:
        worst, ties = 0.0, 0
        for seed in range(count):
            kind = KINDS[seed % len(KINDS)]
            rows, f = draw_round(kind, seed=seed)
            apart = compare_rule(byzfl, rule, rows, f=f)
            if apart > APART_MAX and rule.endswith("krum") and has_ties(rows, f=f):
                # Both are right: of equal scores ByzFL takes the first in its order, and we the smallest update id.
                ties += 1
            else:
                worst = max(worst, apart)
                if apart > APART_MAX:
                    print(f"{rule} differs by {apart:.2g}: draw_round({kind!r}, seed={seed})")  # noqa: T201
        fine &= worst <= APART_MAX
        row = {"rule": rule, "byzfl": VERSION, "rounds": count, "worst": float(f"{worst:.2g}"), "ties": ties}
        add_row(KIND, row)
        print(row)  # noqa: T201
    return 0 if fine else 1


def load_byzfl() -> ModuleType:
    """Its aggregators alone: the package itself imports torchvision and draws plots."""
    found = importlib.util.find_spec("byzfl")
    assert found is not None, "make byzfl installs it"
    # A package without its own code, in whose folder the rest is found.
    package = ModuleType("byzfl")
    package.__path__ = list(found.submodule_search_locations or [])
    sys.modules["byzfl"] = package
    return importlib.import_module("byzfl.aggregators")


def draw_round(kind: str, *, seed: int) -> tuple[Rows, int]:
    """Vectors of whole grid units, at most CLIP long, shape (n, d), and f of them are the attackers'."""
    draw = np.random.default_rng([seed, KINDS.index(kind)])
    n, d = int(draw.integers(7, 31)), int(draw.integers(1, 300))
    # ByzFL is asked for f + 1, and takes less than half of n.
    f = int(draw.integers(1, (n - 3) // 2 + 1))
    rows = draw.normal(size=(n, d)) + draw.normal(size=d)
    if kind == "sparse":
        rows *= draw.random((n, d)) < 0.1
    if kind == "alike":
        rows = rows[:1] + 0.001 * rows
    honest = rows[f:]
    sent = {
        "sign_flip": lambda: vectors.flip_sign(honest.mean(axis=0), 10.0),
        "alie": lambda: vectors.hide_a_little(honest, 1.5),
        "ipm": lambda: vectors.invert_mean(honest, 0.5),
        "far": lambda: np.full(d, 1e6),
        "copies": lambda: honest[0],
    }
    if kind in sent:
        rows[:f] = sent[kind]()
    rows = rows / np.linalg.norm(rows[f:], axis=1).max()
    rows /= np.maximum(1.0, np.linalg.norm(rows, axis=1))[:, None]
    return np.trunc(rows * CLIP), f


def compare_rule(byzfl: Any, rule: str, rows: Rows, *, f: int) -> float:
    """How far the two are apart in any coordinate, as a share of the clip."""
    n = len(rows)
    members = Members([Member(place, WEIGHT, row.astype(np.int64)) for place, row in enumerate(rows)])
    ours = OURS[rule](members, n, f) / (n * WEIGHT) / CLIP
    theirs = ASKED[rule](byzfl, n, f)(rows / CLIP)
    return float(np.abs(ours - theirs).max())


def has_ties(rows: Rows, *, f: int) -> bool:
    """Whether two members have one score, which is all that can make both right."""
    distances = ((rows[:, None] - rows[None]) ** 2).sum(axis=2)
    scores = np.sort(distances, axis=1)[:, 1 : len(rows) - f - 1].sum(axis=1)
    return max(Counter(scores.tolist()).values()) > 1


if __name__ == "__main__":
    sys.exit(main())
