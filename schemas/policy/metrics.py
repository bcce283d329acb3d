"""Metrics as whole numbers: what devices report with an update, and the exact sums of a round.

A value is a multiple of 2^-16, from -32,768 to 32,767; its weight is the examples behind it, from 1 to 65,536. How
much clip and codec left of an update is told in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Protocol

import msgspec
from msgspec import UNSET

from schemas.identifiers import Count

if TYPE_CHECKING:
    from schemas.policy.sections import Policy

METRIC_ONE = 1 << 16
METRIC_MAX = (1 << 31) - 1
METRIC_SAMPLES_MAX = 1 << 16
# Sums of this many updates stay within 64 bits: 2^31 * 2^16 * 2^15 = 2^62.
METRIC_UPDATES_MAX = 1 << 15
METRICS_MAX = 32
# How long what is reported under privacy may be in an update, as a share of its clip, where the policy does not say.
REPORT_SHARE = 0.25
REPORT_BOUND_MIN, REPORT_BOUND_MAX = 1e-6, 1e6

FixedPoint = Annotated[int, msgspec.Meta(ge=-METRIC_MAX, le=METRIC_MAX)]
Reported = Annotated[tuple[FixedPoint, ...], msgspec.Meta(max_length=METRICS_MAX)]


class Fidelity(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, array_like=True, gc=False):
    """What arrives of a training, as its device has measured it; for people to look at, and believed no further.

    `kept`: the share of its norm that the device's clip left, METRIC_ONE where it did not bite. `lost`: the norm of
    what the codec lost, as a share of the norm of what was sent.
    """

    kept: Annotated[int, msgspec.Meta(ge=0, le=METRIC_ONE)]
    lost: Annotated[int, msgspec.Meta(ge=0, le=METRIC_MAX)]


class MetricSums(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """Over the updates of a round that report: the sum of samples * value of each metric, and the sum of samples."""

    sums: tuple[int, ...]
    samples: Count

    def means(self) -> tuple[float, ...]:
        """The mean of each over the examples."""
        return tuple(total / self.samples / METRIC_ONE for total in self.sums)


def to_fixed(value: float) -> int:
    """The nearest multiple, cut to what can be told; NaN is the worst that can be told, because an update is not."""
    if math.isnan(value):
        return METRIC_MAX
    return round(max(-METRIC_MAX, min(METRIC_MAX, value * METRIC_ONE)))


def limit_samples(samples: int) -> int:
    """The weight of a report: what a device says of its examples is not trusted further than this."""
    return max(1, min(samples, METRIC_SAMPLES_MAX))


class Report(Protocol):
    """What an admitted update reports."""

    @property
    def metrics(self) -> tuple[int, ...]:
        """A value a metric, or nothing."""
        ...

    @property
    def samples(self) -> int:
        """The weight of it."""
        ...


def add_sums(parts: Iterable[MetricSums | None]) -> MetricSums | None:
    """The sums over all of these; None where nothing was asked for."""
    given = [part for part in parts if part is not None]
    if not given:
        return None
    columns = zip(*(part.sums for part in given), strict=True)
    return MetricSums(sums=tuple(map(sum, columns)), samples=sum(part.samples for part in given))


def sum_metrics(reports: Iterable[Report], *, count: int) -> MetricSums | None:
    """The exact sums of `count` metrics; None where nothing was asked for."""
    if count == 0:
        return None
    told = [report for report in reports if len(report.metrics) == count]
    sums = tuple(sum(report.metrics[place] * report.samples for report in told) for place in range(count))
    return MetricSums(sums=sums, samples=sum(report.samples for report in told))


def list_open_reports(policy: Policy) -> tuple[str, ...]:
    """The metrics that devices tell beside their updates; none under privacy."""
    return policy.evaluation.report if policy.privacy is None else ()


def list_noised_reports(policy: Policy) -> tuple[str, ...]:
    """The metrics that are elements of the clipped vector itself, under the noise of its release."""
    return () if policy.privacy is None else policy.evaluation.report


def measure_report(policy: Policy) -> float:
    """The longest that reported metrics are together in an update, in units of its clip's norm."""
    share = policy.evaluation.report_share
    return (REPORT_SHARE if share is UNSET else share) * policy.clipping.norm


def list_report_scales(policy: Policy) -> tuple[float, ...]:
    """What one unit of each reported metric is in the vector: at its bound all of them are equally long."""
    names, bounds = list_noised_reports(policy), policy.evaluation.report_bounds or {}
    longest = measure_report(policy) / math.sqrt(max(1, len(names)))
    return tuple(longest / bounds[name] for name in names)
