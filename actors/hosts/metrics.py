"""What a worker tells Prometheus. Counters follow decisions as they are committed; gauges show where things stand."""

from __future__ import annotations

from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from actors.deciders.aggregator_state import Rounds
from actors.deciders.selector import Selections
from actors.runtime.actor import Actor
from schemas.events import (
    CheckinsDeclined,
    DefectFound,
    InputsDropped,
    JournalEvent,
    LeaseClosed,
    LeaseGranted,
    ModelPublished,
    Noticed,
    RoundCharged,
    RoundOpened,
    RoundProposed,
    TaskCreated,
    TaskHalted,
    UpdateAdmitted,
    UpdateRefused,
)
from schemas.journal import Decision
from streams.log import TopicPartition
from streams.retry import Outage

logger = structlog.get_logger()

_STALENESS_BUCKETS = (0, 1, 2, 3, 5, 8, 13, 21, 34, 55)
_ROUND_SECONDS_BUCKETS = (0.1, 0.3, 1, 3, 10, 30, 100, 300, 1_000, 3_600, 14_400, 86_400)


class WorkerMetrics:
    """One registry a worker."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._opened_ms: dict[str, int] = {}
        self._fills: dict[str, Gauge] = {}  # by task; a look-up of labels costs more than the step
        self._private: dict[str, TaskCreated] = {}
        self._epsilon_max: dict[str, float] = {}
        self._available = self._gauge("broker_available", "1 while the broker answers, 0 while it is waited for")
        self._silent_s = self._gauge("broker_silent_seconds", "Since the broker's last answer")
        self._defects = self._counter("defects", "Inputs on which our own code failed: look at the log", "topic")
        self._admitted = self._counter("updates_admitted", "Updates in a round", "task")
        self._zeroed = self._counter("updates_zeroed", "Admitted updates that count as zero", "task")
        self._refused = self._counter("updates_refused", "Updates in no round", "task", "reason")
        self._dropped = self._counter("inputs_dropped", "Inputs without a valid lease or signature", "topic")
        self._declined = self._counter("checkins_declined", "Check-ins without a lease", "task", "reason")
        self._leases = self._counter("leases", "Leases granted and closed", "task", "event")
        self._staleness = self._histogram(
            "staleness_versions", "Staleness of admitted updates", buckets=_STALENESS_BUCKETS
        )
        self._round_s = self._histogram("round_seconds", "From opening to proposing", buckets=_ROUND_SECONDS_BUCKETS)
        self._fill = self._gauge("buffer_fill", "Updates in the open round", "task")
        self._version = self._gauge("version", "Newest version", "task")
        self._epsilon = self._gauge("privacy_epsilon_spent", "Epsilon at the policy's delta", "task")
        self._epsilon_left = self._gauge(
            "privacy_epsilon_left", "Until the budget is spent, at the policy's delta", "task"
        )
        self._rho = self._gauge("privacy_rho_spent", "zCDP spent", "task")
        self._rho_left = self._gauge("privacy_rho_left", "zCDP left", "task")
        self._bodies_measured = self._counter("shard_bodies_measured", "Bodies that this shard worker has measured")
        self._partials_stored = self._counter("shard_partials_stored", "Sums that this shard worker has stored")
        self._lag = self._gauge("input_lag_records", "Offsets not yet decided", "topic", "partition")
        self._replay_s = self._gauge("replay_seconds", "Claim and replay of the newest opening", "partition")
        self._replayed = self._gauge("replayed_decisions", "Decisions of the newest opening", "partition")
        self._from_snapshot = self._gauge(
            "opened_from_snapshot", "1 if the newest opening went on from a snapshot, else 0", "partition"
        )

    def serve(self, host: str, port: int) -> None:
        """Answer Prometheus on `host`:`port`; port 0 is a free one, told in the log."""
        server, _ = start_http_server(port, host, registry=self.registry)
        logger.info("metrics", host=host, port=server.server_port)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"fedlog_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"fedlog_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, *, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"fedlog_{name}", text, ["task"], buckets=buckets, registry=self.registry)

    def watch(self, outage: Outage) -> None:
        """Show whether the broker answers; the questions are the host's."""
        self._available.set_function(lambda: bool(outage.answers))
        self._silent_s.set_function(lambda: outage.silent_s)

    def opened(self, partition: int, actor: Actor[Any], *, seconds: float) -> None:
        """An actor is open on this partition."""
        self._replay_s.labels(partition).set(seconds)
        self._replayed.labels(partition).set(actor.replayed_decisions)
        self._from_snapshot.labels(partition).set(actor.snapshot is not None)

    def lagging(self, at: TopicPartition, records: int) -> None:
        """So many offsets of an input are not decided yet."""
        self._lag.labels(at.topic, at.partition).set(records)

    def sharded(self, measured: int, stored: int) -> None:
        """A shard worker has told so many results."""
        self._bodies_measured.inc(measured)
        self._partials_stored.inc(stored)

    def decided(self, decision: Decision) -> None:
        """A decision is in the journal."""
        for event in decision.events:
            self._counted(event, decision.time_ms)
        self.measured(decision)

    def restored(self, state: Any) -> None:
        """Bring the gauges up to a state that came from a snapshot."""
        match state:
            case Rounds():
                for name, task in state.tasks.items():
                    if task.version >= 0:
                        self._version.labels(name).set(task.version)
                    self._fill_of(name).set(len(task.buffer.members) if task.buffer else 0)
            case Selections():
                pass  # it has counters only
            case _:
                for account in state.accounts.values():
                    self._spent(account.created, account.participations_max)

    def measured(self, decision: Decision) -> None:
        """Bring the gauges up to this decision, new or replayed."""
        for event in decision.events:
            self._measured(event, decision.time_ms)

    def _spent(self, created: TaskCreated, participations_max: int) -> None:
        # Here, because dp-accounting takes as long to import as all the rest, and the others do without.
        from actors.deciders.arithmetic.accounting import epsilon, rho  # noqa: PLC0415

        task, privacy = created.task, created.policy.privacy
        assert privacy is not None
        # Beyond the cap nothing was charged, only withheld.
        charged = min(participations_max, created.policy.participations_cap or 0)
        spent = rho(charged, privacy.noise_multiplier)
        self._private[task] = created
        self._paid(task, spent, epsilon=epsilon(charged, privacy.noise_multiplier, delta=privacy.delta))

    def _paid(self, task: str, rho: float, *, epsilon: float) -> None:
        self._rho.labels(task).set(rho)
        self._epsilon.labels(task).set(epsilon)
        if task in self._private:
            privacy = self._private[task].policy.privacy
            assert privacy is not None
            self._rho_left.labels(task).set(privacy.rho_max - rho)
            self._epsilon_left.labels(task).set(self._whole_epsilon(task) - epsilon)

    def _whole_epsilon(self, task: str) -> float:
        """What the whole budget is worth at the policy's delta."""
        from actors.deciders.arithmetic.accounting import epsilon  # noqa: PLC0415  as above

        if task not in self._epsilon_max:
            policy = self._private[task].policy
            assert policy.privacy is not None
            self._epsilon_max[task] = epsilon(
                policy.participations_cap or 0, policy.privacy.noise_multiplier, delta=policy.privacy.delta
            )
        return self._epsilon_max[task]

    def _counted(self, event: JournalEvent, time_ms: int) -> None:
        match event:
            case UpdateAdmitted():
                self._admitted.labels(event.task).inc()
                self._zeroed.labels(event.task).inc(event.zeroed is not None)
                self._staleness.labels(event.task).observe(event.staleness)
            case UpdateRefused():
                self._refused.labels(event.task, event.reason).inc()
            case InputsDropped():
                self._dropped.labels(event.topic).inc(event.count)
            case DefectFound():
                self._defects.labels(event.topic).inc()
            case CheckinsDeclined():
                for reason, count in event.counts.items():
                    self._declined.labels(event.task, reason).inc(count)
            case LeaseGranted():
                self._leases.labels(event.task, "granted").inc()
            case LeaseClosed():
                self._leases.labels(event.task, event.outcome).inc()
            case RoundProposed() if event.task in self._opened_ms:
                self._round_s.labels(event.task).observe((time_ms - self._opened_ms[event.task]) / 1000)

    def _measured(self, event: JournalEvent, time_ms: int) -> None:
        match event:
            case RoundOpened():
                self._opened_ms[event.task] = time_ms
                self._fill_of(event.task).set(0)
            case UpdateAdmitted():
                self._fill_of(event.task).inc()
            case ModelPublished():
                self._version.labels(event.task).set(event.version)
            case RoundProposed() | TaskHalted():
                self._fill_of(event.task).set(0)
            case Noticed(fact=TaskCreated() as created) if created.policy.privacy is not None:
                self._private[created.task] = created
            case RoundCharged():
                self._paid(event.task, event.rho_total, epsilon=event.epsilon)

    def _fill_of(self, task: str) -> Gauge:
        if task not in self._fills:
            self._fills[task] = self._fill.labels(task)
        return self._fills[task]
