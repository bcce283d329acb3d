"""The release of a measure task, computed again from what its devices sent: struct, zstd and whole numbers.

Shares no line with fedlog. It takes float32 answers that stand inline in their records, as answers of a few numbers do.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from math import prod

import zstandard

from tests.judges.plain_reader import CLIP_ONE, WEIGHT_ONE, Fact, PlainLog

Rows = list[tuple[int, str, int, float]]


def recompute_statistics(log: PlainLog, task: str) -> Rows:
    """Version, statistic, place and value of all that a task without privacy has released."""
    created = log.one("TaskCreated", task=task)
    assert created is not None
    return [
        row
        for published in log.of("ModelPublished", task=task)
        if published["version"]
        for row in _recompute(log, created["policy"], published)
    ]


def _recompute(log: PlainLog, policy: Fact, published: Fact) -> Iterator[tuple[int, str, int, float]]:
    members = log.of("UpdateAdmitted", task=published["task"], round=published["round"])
    sent = {(*fact["at"], fact["number"]): fact for fact in log.facts["UpdateSubmitted"]}
    step = policy["clipping"]["norm"] / policy["clipping"]["steps"]
    asked = policy["measure"]["statistics"]
    names = [(name, place) for name, one in asked.items() for place in range(prod(one.get("shape", ())))]
    totals = [0] * len(names)
    for member in members:
        payload = zstandard.decompress(sent[member["input"]]["inline"])
        for place, share in enumerate(struct.unpack(f"<{len(names)}f", payload)):
            totals[place] += member["weight"] * _clip(round(share / step), member["clip_scale"])
    parts = len(members) if policy["measure"].get("release", "mean") == "mean" else 1
    for (name, place), total in zip(names, totals, strict=True):
        value = total * (step / WEIGHT_ONE) / parts * asked[name]["bound"]
        yield published["version"], name, place, struct.unpack("<f", struct.pack("<f", value))[0]


def _clip(quantum: int, scale: int) -> int:
    if scale == CLIP_ONE:
        return quantum
    return (1 if quantum > 0 else -1) * (scale * abs(quantum) // CLIP_ONE)
