"""Policies by the names that textbooks give them: `preset = "fedavg"` at the top of a file fills in what it leaves out.

Whatever the file says itself counts. The log holds the result, with every field, and knows of no preset. FedAvg is
McMahan et al. 2017, algorithm 1; FedProx Li et al. 2020; FedBuff Nguyen et al. 2022, algorithm 1; FedAsync Xie et al.
2019, with alpha = 0.6 and few devices at work: the paper tries a staleness of at most 4 (and 16), and steps of 0.6 from
older versions overshoot.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Table = dict[str, Any]

COHORT = 10  # devices a round, or all there are
# A norm that no update of a sensible training reaches, on the finest grid: nothing is cut off, and what is rounded
# away is below a ten-thousandth.
_LOSSLESS: Table = {
    "compression": {"codec": "float32", "error_feedback": False},
    "clipping": {"norm": 64.0, "steps": 1 << 20},
}
_FEDAVG: Table = {
    **_LOSSLESS,
    "aggregation": {"updates_per_round": COHORT, "normalisation": "weight", "samples_max": 10_000},
    "staleness": {"rule": "constant", "max_versions": 0},
    "optimizer": {"rule": "sgd", "learning_rate": 1.0},
}
_FEDBUFF: Table = {
    "aggregation": {"updates_per_round": COHORT, "normalisation": "count", "samples_max": 0},
    "staleness": {"rule": "polynomial", "exponent": 0.5, "max_versions": 20},
    "optimizer": {"rule": "sgd", "learning_rate": 1.0},
}
PRESETS: Mapping[str, Table] = {
    "fedavg": _FEDAVG,
    "fedprox": {**_FEDAVG, "training": {"algorithm": "fedprox", "proximal_mu": 0.01}},
    "fedbuff": {**_FEDBUFF, **_LOSSLESS},
    "fedasync": {
        **_FEDBUFF,
        **_LOSSLESS,
        "aggregation": {**_FEDBUFF["aggregation"], "updates_per_round": 1},
        "optimizer": {"rule": "sgd", "learning_rate": 0.6},
    },
    # Clipped to 1, and noise of one clip norm a release; the budget allows each device eight participations.
    "dp-fedbuff": {**_FEDBUFF, "clipping": {"norm": 1.0}, "privacy": {"noise_multiplier": 1.0, "rho_max": 4.0}},
}
# Leases at a time, as a multiple of K: a synchronous round takes K devices, a buffer more than it holds.
_SYNCHRONOUS = ("fedavg", "fedprox")
_AT_WORK_FACTOR = 3
_AT_WORK_ALONE = 5


def expand_preset(found: Table) -> Table:
    """The content of a policy file with what its preset fills in. Raises ValueError for a name that is none."""
    given = dict(found)
    name = given.pop("preset", None)
    if name is None:
        return given
    if not isinstance(name, str) or name not in PRESETS:
        raise ValueError(f"preset = {name!r}: there are {', '.join(PRESETS)}")
    filled = _merge(PRESETS[name], given)
    selection, aggregation = filled.get("selection"), filled["aggregation"]
    if not isinstance(selection, dict) or not isinstance(aggregation, dict):
        return filled
    expected, size = selection.get("devices_expected"), aggregation.get("updates_per_round")
    # What is no number is refused with the rest of the policy, in its own words.
    if not isinstance(expected, int) or not isinstance(size, int):
        return filled
    if "updates_per_round" not in (given.get("aggregation") or {}):
        size = max(1, min(size, expected))
    wanted = _AT_WORK_ALONE if name == "fedasync" else _AT_WORK_FACTOR * max(size, COHORT)
    at_work = size if name in _SYNCHRONOUS else max(size, min(expected, wanted))
    filled["aggregation"] = {**aggregation, "updates_per_round": size}
    filled["selection"] = {"concurrency": at_work, **selection}
    return filled


def _merge(below: Table, above: Table) -> Table:
    """Both, table by table; what stands above counts."""
    merged = {**below, **above}
    for name in below.keys() & above.keys():
        if isinstance(below[name], dict) and isinstance(above[name], dict):
            merged[name] = _merge(below[name], above[name])
    return merged
