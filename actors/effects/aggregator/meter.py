"""The aggregator in numbers: updates by outcome, the fill of the open round, the time a round takes, the version."""

from __future__ import annotations

from msgspec import UNSET

from actors.deciders.aggregator_state import Rounds
from actors.runtime.meter import Gauge, Instruments, Meter
from schemas.events import (
    DeviceQuarantined,
    DriftEnded,
    DriftEvent,
    DriftFound,
    JournalEvent,
    MembersCompared,
    ModelPublished,
    Noticed,
    QuarantineLifted,
    RoundOpened,
    RoundProposed,
    TaskCreated,
    TaskHalted,
    UpdateAdmitted,
    UpdateRefused,
    UpdatesDeclined,
)
from schemas.identifiers import TaskId
from schemas.policy.metrics import METRIC_ONE

_STALENESS_BUCKETS = (0, 1, 2, 3, 5, 8, 13, 21, 34, 55)
_CODEC_LOSS_BUCKETS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
# From simulated rounds of a fraction of a second to those that wait a day for their devices.
_ROUND_SECONDS_BUCKETS = (0.1, 0.3, 1, 3, 10, 30, 100, 300, 1_000, 3_600, 14_400, 86_400)


class _Weights:
    """How the weights of open rounds spread: of each their sum, and that of their squares."""

    def __init__(self, instruments: Instruments) -> None:
        self._effective = instruments.gauge("updates_effective", "The newest round in updates of one weight", "task")
        self._sums: dict[str, tuple[int, int]] = {}

    def begin(self, task: str) -> None:
        """A round opens."""
        self._sums.pop(task, None)

    def add(self, task: str, weight: int) -> None:
        """A member joins it."""
        total, squares = self._sums.get(task, (0, 0))
        self._sums[task] = total + weight, squares + weight * weight

    def show(self, task: str) -> None:
        """It is full: as many updates of one weight say as much (Kish 1965)."""
        total, squares = self._sums.get(task, (0, 0))
        if squares:
            self._effective.labels(task).set(total**2 / squares)


class _Losses:
    """What clips and codecs have taken off admitted updates."""

    def __init__(self, instruments: Instruments) -> None:
        self._clipped = instruments.counter("updates_clipped", "Admitted updates that the clip has cut", "task")
        self._codec_loss = instruments.histogram(
            "codec_loss_ratio", "Norm that codecs lost of updates, as devices tell", "task", buckets=_CODEC_LOSS_BUCKETS
        )

    def count(self, event: UpdateAdmitted) -> None:
        """One update more."""
        self._clipped.labels(event.task).inc(event.is_clipped)
        if event.fidelity is not None:
            self._codec_loss.labels(event.task).observe(event.fidelity.lost / METRIC_ONE)


class _Apart:
    """Updates that stood apart, and devices that are let in no more, of tasks whose policy compares them."""

    def __init__(self, instruments: Instruments) -> None:
        self._anomalies = instruments.counter("updates_apart", "Updates that stood apart from the others", "task")
        self._quarantined = instruments.gauge("devices_quarantined", "Devices that are let in no more", "task")

    def set(self, created: TaskCreated, count: int) -> None:
        """So many are out; from the first day on, so that the first one is a rise."""
        if created.policy.quarantine is not UNSET:
            self._quarantined.labels(created.task).set(count)
            self._anomalies.labels(created.task).inc(0)

    def follow(self, event: JournalEvent) -> None:
        """Who is out after an event."""
        match event:
            case DeviceQuarantined():
                self._quarantined.labels(event.task).inc()
            case Noticed(fact=QuarantineLifted() as lifted):
                self._quarantined.labels(lifted.task).inc(-1)
            case Noticed(fact=TaskCreated() as created):
                self.set(created, 0)

    def count(self, event: MembersCompared) -> None:
        """How many of a round stood apart."""
        self._anomalies.labels(event.task).inc(len(event.anomalies))


class _Fills:
    """How full the open round of each task is."""

    def __init__(self, instruments: Instruments) -> None:
        self._fill = instruments.gauge("buffer_fill", "Updates in the open round", "task")
        self._held: dict[str, Gauge] = {}

    def find(self, task: str) -> Gauge:
        """That of a task."""
        # Kept by task, because looking labels up costs more than the step itself.
        if task not in self._held:
            self._held[task] = self._fill.labels(task)
        return self._held[task]


class _Drifts:
    """How far the answers of measure tasks have moved, where they have."""

    def __init__(self, instruments: Instruments) -> None:
        self._drift = instruments.gauge(
            "drift", "How far answers have moved, in bounds; 0 within them", "task", "kind", "cohort", "measure"
        )

        self._shown: dict[TaskId, set[tuple[str, str, str]]] = {}
        self._over: set[TaskId] = set()
        self._succeeded: set[TaskId] = set()

    def show(self, event: DriftEvent) -> None:
        """What was found of a version, or has ended."""
        place = (event.kind, event.cohort, event.measure)
        self._shown.setdefault(event.task, set()).add(place)
        # Of a bound of zero whatever is found is beyond.
        share = event.value / event.bound if event.bound else float(event.value > 0)
        self._drift.labels(event.task, *place).set(share if isinstance(event, DriftFound) else 0)

    def end(self, task: TaskId) -> None:
        """Nobody answers a task any more: what stands does so until another asks the same."""
        self._over.add(task)
        self._forget_the_past(task)

    def succeed(self, created: TaskCreated) -> None:
        """A task is compared with another: once that is over, this one tells what is so."""
        if (asked := created.policy.drift) is not UNSET:
            self._succeeded.add(asked.of)
            self._forget_the_past(asked.of)

    def _forget_the_past(self, task: TaskId) -> None:
        # In whichever order an operator asks anew and closes the old question.
        for place in self._shown.get(task, ()) if task in self._over & self._succeeded else ():
            self._drift.labels(task, *place).set(0)


class AggregatorMeter(Meter):
    """Follows the journal `rounds`."""

    def __init__(self, instruments: Instruments) -> None:
        self._admitted = instruments.counter("updates_admitted", "Updates in a round", "task")
        self._zeroed = instruments.counter("updates_zeroed", "Admitted updates that count as zero", "task")
        self._refused = instruments.counter("updates_refused", "Updates in no round", "task", "reason")
        self._staleness = instruments.histogram(
            "staleness_versions", "Staleness of admitted updates", "task", buckets=_STALENESS_BUCKETS
        )
        self._losses = _Losses(instruments)
        self._weights, self._apart = _Weights(instruments), _Apart(instruments)
        self._round_s = instruments.histogram(
            "round_seconds", "From opening to proposing", "task", buckets=_ROUND_SECONDS_BUCKETS
        )
        self._fills = _Fills(instruments)
        self._version = instruments.gauge("version", "Newest version", "task")
        self._drifts = _Drifts(instruments)
        self._opened_ms: dict[str, int] = {}

    def restore(self, state: Rounds) -> None:
        """Versions and buffers as they are."""
        for name, task in state.tasks.items():
            if task.version >= 0:
                self._version.labels(name).set(task.version)
            self._apart.set(task.created, 0 if task.watch is UNSET else len(task.watch.quarantined))
            members = task.buffer.members.values() if task.buffer else ()
            self._fills.find(name).set(len(members))
            for member in members:
                self._weights.add(name, member.weight)
            for found in task.drifts.found.values() if task.drifts else ():
                self._drifts.show(found)
            if task.status == "halted":
                self._drifts.end(name)
        for task in state.tasks.values():
            self._drifts.succeed(task.created)

    def follow(self, event: JournalEvent, time_ms: int) -> None:
        """Versions, buffers and quarantines as an event leaves them."""
        self._apart.follow(event)
        match event:
            case RoundOpened():
                self._opened_ms[event.task] = time_ms
                self._weights.begin(event.task)
                self._fills.find(event.task).set(0)
            case UpdateAdmitted():
                self._fills.find(event.task).inc()
                self._weights.add(event.task, event.weight)
            case ModelPublished():
                self._version.labels(event.task).set(event.version)
            case DriftFound() | DriftEnded():
                self._drifts.show(event)
            case RoundProposed() | TaskHalted():
                self._fills.find(event.task).set(0)
                if isinstance(event, RoundProposed):
                    self._weights.show(event.task)
                else:
                    self._drifts.end(event.task)
            case Noticed(fact=TaskCreated() as created):
                self._drifts.succeed(created)

    def count(self, event: JournalEvent, time_ms: int) -> None:
        """Outcomes of updates, and the time from the opening of a round to its proposal."""
        match event:
            case UpdateAdmitted():
                self._admitted.labels(event.task).inc()
                # Raised by zero too, so that the series is there for an alarm before the first such update.
                self._zeroed.labels(event.task).inc(event.zeroed is not None)
                self._staleness.labels(event.task).observe(event.staleness)
                self._losses.count(event)
            case MembersCompared():
                self._apart.count(event)
            case UpdateRefused():
                self._refused.labels(event.task, event.reason).inc()
            case UpdatesDeclined():
                for reason, count in event.counts.items():
                    # Only tasks that exist have a name here: each label costs memory until the process ends.
                    self._refused.labels(event.task or "", reason).inc(count)
            # From a snapshot on, the opening may not have been read back, and no duration is better than a wrong one.
            case RoundProposed() if event.task in self._opened_ms:
                self._round_s.labels(event.task).observe((time_ms - self._opened_ms[event.task]) / 1000)


def make_meter(instruments: Instruments) -> AggregatorMeter:
    """The meter of the role."""
    return AggregatorMeter(instruments)
