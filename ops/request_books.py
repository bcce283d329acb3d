"""The figures of a server about the requests that it gets: for `ops.gateway` and `ops.web`, each under its own name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from actors.hosts.metrics import PrometheusInstruments

# A path that is no route of ours may be anything, and would be a name of its own each time.
NO_ROUTE = "none"


class RequestBooks:
    """Answers by route and status, how long they took, and how things stand: `figures` by name, with their meaning.

    `prefix`: of all names. `until`: what ends the time of a request, in words; `buckets` of it, in seconds.
    """

    def __init__(self, prefix: str, *, until: str, buckets: tuple[float, ...], figures: Mapping[str, str]) -> None:
        self.instruments = make = PrometheusInstruments()
        self._requests = make.counter(f"{prefix}_requests", "Answers", "route", "status")
        self._seconds = make.histogram(f"{prefix}_request_seconds", until, "route", buckets=buckets)
        self._figures = {name: make.gauge(f"{prefix}_{name}", text) for name, text in figures.items()}

    def watch(self, **figures: Callable[[], float]) -> None:
        """Show how things stand, each figure by who knows it."""
        # Asked at the time of a scrape, so that none can be forgotten where something changes.
        for name, find in figures.items():
            self._figures[name].set_function(find)

    def note_answer(self, route: str, status: int, *, seconds: float) -> None:
        """A request that was answered."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)
