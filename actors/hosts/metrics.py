"""What a worker tells Prometheus: counters follow decisions as they are committed, gauges show where things stand.

Hosts make these. What only one actor has is in the meter of its role; here is what every worker and every actor has.
"""

from __future__ import annotations

from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from actors.runtime.actor import Actor
from actors.runtime.role import Role
from schemas.errors import EXIT_USAGE, FedlogError
from schemas.events import DefectFound, InputsDropped
from schemas.journal import Decision
from streams.log import TopicPartition
from streams.retry import Outage

logger = structlog.get_logger()


class MetricsUnserved(FedlogError):
    """Metrics cannot be served where they should be; the message names host and port."""

    exit_code = EXIT_USAGE
    code = "metrics_unserved"


class PrometheusInstruments:
    """Makes metrics in one registry, under names that begin with `fedlog_`."""

    def __init__(self) -> None:
        # Not the registry that the library shares by default: two workers in one process would clash in it.
        self.registry = CollectorRegistry()

    def counter(self, name: str, text: str, *labels: str) -> Counter:
        """A number that only grows."""
        return Counter(f"fedlog_{name}", text, labels, registry=self.registry)

    def gauge(self, name: str, text: str, *labels: str) -> Gauge:
        """A number that goes up and down."""
        return Gauge(f"fedlog_{name}", text, labels, registry=self.registry)

    def histogram(self, name: str, text: str, *labels: str, buckets: tuple[float, ...]) -> Histogram:
        """A distribution."""
        return Histogram(f"fedlog_{name}", text, labels, buckets=buckets, registry=self.registry)

    def serve(self, host: str, port: int) -> None:
        """Answer Prometheus on `host`:`port`; port 0 is a free one, named in the log. Raises MetricsUnserved."""
        try:
            # In a thread of the library's own, so that a process that hangs still shows its last numbers.
            server, _ = start_http_server(port, host, registry=self.registry)
        except OSError as error:
            raise MetricsUnserved(
                f"metrics cannot be served on {host}:{port}: {error.strerror or error}; "
                "name another --metrics-host or --metrics-port (0 takes a free one)"
            ) from error
        logger.info("metrics", host=host, port=server.server_port)


class WorkerMetrics:
    """What every worker process serves, and the instruments for what it has beside."""

    def __init__(self) -> None:
        self.instruments = PrometheusInstruments()
        self._available = self.instruments.gauge(
            "broker_available", "1 while the broker answers, 0 while it is waited for"
        )
        self._silent_s = self.instruments.gauge("broker_silent_seconds", "Since the broker's last answer")
        self._expires_s = self.instruments.gauge(
            "certificate_expires_seconds", "When the key of this worker's role runs out, in Unix time"
        )

    def serve(self, host: str, port: int) -> None:
        """Answer Prometheus on `host`:`port`; port 0 is a free one, named in the log. Raises MetricsUnserved."""
        self.instruments.serve(host, port)

    def watch(self, outage: Outage) -> None:
        """Show whether the broker answers what the process asks of it."""
        # Asked at the time of a scrape, because silence makes no event that could set a gauge.
        self._available.set_function(lambda: bool(outage.answers))
        self._silent_s.set_function(lambda: outage.silent_s)

    def show_expiry(self, until_ms: int) -> None:
        """Until when the worker's key is certified."""
        self._expires_s.set(until_ms / 1000)


class ActorMetrics:
    """What the actors of one role show: an observer of each of them, and what their host measures of them."""

    def __init__(self, role: Role, instruments: PrometheusInstruments) -> None:
        self._meter = role.load_meter(instruments)
        self._defects = instruments.counter("defects", "Inputs on which our own code failed: look at the log", "topic")
        self._dropped = instruments.counter("inputs_dropped", "Inputs without a valid lease or signature", "topic")
        self._lag = instruments.gauge("input_lag_records", "Offsets not yet decided", "topic", "partition")
        self._replay_s = instruments.gauge("replay_seconds", "Claim and replay of the newest opening", "partition")
        self._replayed = instruments.gauge("replayed_decisions", "Decisions of the newest opening", "partition")
        self._from_snapshot = instruments.gauge(
            "opened_from_snapshot", "1 if the newest opening went on from a snapshot, else 0", "partition"
        )

    def note_restored(self, state: object) -> None:
        """Bring the gauges up to a state that came from a snapshot."""
        self._meter.restore(state)

    def note_replayed(self, decision: Decision) -> None:
        """Gauges follow a decision that was read back, counters do not."""
        # A counter that grew with every replay would show work that nobody has done.
        for event in decision.events:
            self._meter.follow(event, decision.time_ms)

    def note_decided(self, decision: Decision, seq: int) -> None:
        """Counters and gauges follow a new decision."""
        # Counting comes first: it measures a round from its opening, and a proposal opens the next one.
        for event in decision.events:
            match event:
                case InputsDropped():
                    self._dropped.labels(event.topic).inc(event.count)
                case DefectFound():
                    self._defects.labels(event.topic).inc(event.count)
            self._meter.count(event, decision.time_ms)
        self.note_replayed(decision)

    def show_opening(self, partition: int, actor: Actor[Any], *, seconds: float) -> None:
        """How an actor came to its state, and how long that took."""
        self._replay_s.labels(partition).set(seconds)
        self._replayed.labels(partition).set(actor.opened.decisions)
        self._from_snapshot.labels(partition).set(actor.opened.snapshot is not None)

    def show_lag(self, at: TopicPartition, records: int) -> None:
        """How many offsets of an input are not decided yet."""
        self._lag.labels(at.topic, at.partition).set(records)


class ShardMetrics:
    """What a shard worker shows."""

    def __init__(self, instruments: PrometheusInstruments) -> None:
        self._measured = instruments.counter("shard_bodies_measured", "Bodies that this shard worker has measured")
        self._stored = instruments.counter("shard_partials_stored", "Sums that this shard worker has stored")

    def count(self, measured: int, stored: int) -> None:
        """Results since the last call."""
        self._measured.inc(measured)
        self._stored.inc(stored)
