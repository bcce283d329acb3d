"""`make drift`: PSI and KS of drift beside Evidently's and scipy's on the same histograms; adds a row to docs/results.

Histograms are drawn: pairs of one population, pairs that have moved a little, and pairs that have nothing in common.
What is beyond chance is compared too: for that each example is a device of its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from typing import Any

import numpy as np

from actors.deciders.arithmetic.drifting import FALSE_ALARMS, MILLION, Distances, compare
from tests.root import ROOT
from tests.trials.results import add_row
from tests.worlds.drift.asking import histogram
from tests.worlds.stage import say

PEER = ROOT / "build" / "drift" / "bin" / "python"
# Half a device more in each bin moves a PSI of thousands of examples by less.
PSI_APART_MAX, KS_APART_MAX = 0.005, 2e-6
# One of both distances, so that the chance is halved between them.
ALARMS = float(FALSE_ALARMS) / 2

Pair = tuple[list[int], list[int]]


def main() -> int:
    """Compare so many pairs; 1 where somebody says something else."""
    parser = argparse.ArgumentParser(prog="make drift", description=__doc__)
    parser.add_argument("--pairs", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    pairs = [draw_pair(np.random.default_rng([asked.seed, number]), number) for number in range(asked.pairs)]
    peer = [str(PEER), str(ROOT / "tests" / "trials" / "drifting" / "peer.py")]
    ran = subprocess.run(peer, input=json.dumps(pairs), capture_output=True, text=True, check=False, timeout=600)
    if ran.returncode:
        say(ran.stderr)
        return 1
    row = summarize(pairs, json.loads(ran.stdout)) | {"pairs": len(pairs), "evidently": read_version()}
    add_row("drift", row)
    say(json.dumps(row))
    return int(row["psi_apart"] > PSI_APART_MAX or row["ks_apart"] > KS_APART_MAX or bool(row["contradicted"]))


def draw_pair(draw: np.random.Generator, number: int) -> Pair:
    """Two histograms of some thousand examples each; each third pair is of one population, of others apart."""
    bins = int(draw.integers(2, 12))
    one = draw.dirichlet(np.full(bins, 5.0))
    other = draw.dirichlet(np.full(bins, 5.0))
    share = (0.0, 0.1, 1.0)[number % 3]
    both = (one, (1 - share) * one + share * other)
    drawn = [draw.multinomial(int(draw.integers(3_000, 9_000)), weights) for weights in both]
    # An empty bin is smoothed by each in its own way.
    return tuple([int(count) + 50 for count in counts] for counts in drawn)  # type: ignore[return-value]


def summarize(pairs: list[Pair], told: list[dict[str, float]]) -> dict[str, Any]:
    """How far ours are from theirs at most, and how often each finds what is no chance."""
    psi_apart = ks_apart = p_apart = 0.0
    found: dict[str, int] = {"ours": 0, "evidently": 0}
    contradicted: list[int] = []
    for number, (pair, theirs) in enumerate(zip(pairs, told, strict=True)):
        ours = compare(*(histogram(counts, sum(counts)) for counts in pair))
        assert isinstance(ours, Distances)
        psi_apart = max(psi_apart, abs(ours.psi / MILLION - theirs["psi"]) / max(theirs["psi"], 0.01))
        ks_apart = max(ks_apart, abs(ours.ks / MILLION - theirs["scipy_ks"]))
        p_apart = max(p_apart, abs(theirs["ks_p"] - theirs["scipy_p"]))
        is_found, is_found_by_them = ours.ks > ours.ks_by_chance, theirs["ks_p"] < ALARMS
        found["ours"] += is_found
        found["evidently"] += is_found_by_them
        # Ours is on the safe side: what it finds they find, and what they find by far it finds.
        if (is_found and not is_found_by_them) or (theirs["ks_p"] < ALARMS / 2 and not is_found):
            contradicted.append(number)
    return {
        "psi_apart": round(psi_apart, 6),
        "ks_apart": round(ks_apart, 9),
        "scipy_p_apart": p_apart,
        "found": found,
        "contradicted": contradicted,
    }


def read_version() -> str:
    """Which Evidently it was."""
    words = [str(PEER), "-c", "import importlib.metadata as m; print(m.version('evidently'))"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
