"""What an actor shows of itself in numbers: each role has a meter, and its host provides the instruments.

The instruments are those of `actors.hosts.metrics`, the only module that knows Prometheus.
"""

from __future__ import annotations

from typing import Any, Protocol, Self

from schemas.events import JournalEvent


# Protocols of our own, so that no actor has to import the library that its host shows numbers with.
class Counter(Protocol):
    """A number that only grows while the process lives."""

    def labels(self, *values: Any) -> Self:
        """The counter of these label values."""
        ...

    def inc(self, amount: float = 1) -> None:
        """Count."""
        ...


class Gauge(Protocol):
    """A number that goes up and down."""

    def labels(self, *values: Any) -> Self:
        """The gauge of these label values."""
        ...

    def inc(self, amount: float = 1) -> None:
        """Raise it."""
        ...

    def set(self, value: float) -> None:
        """Replace it."""
        ...


class Histogram(Protocol):
    """A distribution, counted in buckets."""

    def labels(self, *values: Any) -> Self:
        """The histogram of these label values."""
        ...

    def observe(self, amount: float) -> None:
        """Count one value."""
        ...


class Instruments(Protocol):
    """Makes the metrics of one process; names are without the prefix `fedlog_`."""

    def counter(self, name: str, text: str, *labels: str) -> Counter:
        """A new counter; `text` explains it to the reader of a dashboard."""
        ...

    def gauge(self, name: str, text: str, *labels: str) -> Gauge:
        """A new gauge."""
        ...

    def histogram(self, name: str, text: str, *labels: str, buckets: tuple[float, ...]) -> Histogram:
        """A new histogram with these upper bounds."""
        ...


class Meter:
    """The meter of an actor without metrics of its own; each role's meter overrides what it needs."""

    def restore(self, state: Any) -> None:
        """Set the gauges from a state that came from a snapshot: the decisions before it are not read back."""

    def follow(self, event: JournalEvent, time_ms: int) -> None:
        """Bring the gauges up to an event, new or replayed."""

    def count(self, event: JournalEvent, time_ms: int) -> None:
        """Count a new event; a replay must not count it again."""
