"""A row of `make bench`: one thing measured, and beside what."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from streams.kafka.settings import KafkaSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Where a row is measured, and how thoroughly; `quick` proves only that the bench still runs.

    `part`: only this one of the parts of a row that has some, so that each ends within minutes.
    """

    broker: KafkaSettings
    folder: Path
    runs: int = 5
    quick: bool = False
    peers: tuple[str, ...] = ()
    part: str = ""

    def kafka(self, prefix: str) -> KafkaSettings:
        """Topics of their own on this broker."""
        return replace(self.broker, topic_prefix=prefix)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What build/bench.json holds; None is what this row does not measure. A ratio above 1 means: better than the peer.

    `more` has what only rows of this name have.
    """

    name: str
    params: int
    codec: str = ""
    updates_per_s: float | None = None
    cpu_ms_per_update: float | None = None
    mb_per_s: float | None = None
    share_of_floor: float | None = None
    peer: str = ""
    ratio_median: float | None = None
    ratio_min: float | None = None
    ratio_max: float | None = None
    more: Mapping[str, Any] = field(default_factory=dict)


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """Median and spread over pairs that were run one after the other."""
    found = [one / other for one, other in zip(ours, theirs, strict=True)]
    return {
        "ratio_median": figure(statistics.median(found)),
        "ratio_min": figure(min(found)),
        "ratio_max": figure(max(found)),
    }


def median(values: Sequence[float]) -> float:
    """The median, with as many digits as it is worth."""
    return figure(statistics.median(values))


def figure(value: float) -> float:
    """Three significant digits."""
    return float(f"{value:.3g}")
