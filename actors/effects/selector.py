"""Effects of the selector: check-ins with a valid signature come in, signed leases and declines go out."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from actors.deciders.selector import LATER, OpenLease, Selections, SelectorInput, Task
from actors.effects.operator_events import OperatorEvents
from actors.keys import RoleKey
from actors.runtime.effects import NOTHING, Arrival, Effects, FollowUp
from actors.runtime.meter import Instruments, Meter
from schemas.canonical import MalformedError, decode, encode
from schemas.certificates import Signer
from schemas.devices import is_checkin_signed, name_device
from schemas.events import (
    Answer,
    CheckinsDeclined,
    Declined,
    DeclineReason,
    DeviceCheckedIn,
    Granted,
    JournalEvent,
    LeaseAbandoned,
    LeaseClosed,
    LeaseGranted,
    TaskCreated,
    Tick,
)
from schemas.leases import Lease, sign_lease
from schemas.signing import parse_signed
from streams.log import EventLog, Record

# Reasons that will not pass soon.
_LASTING: frozenset[DeclineReason] = frozenset({"closed", "participations"})
_RETRY_UNKNOWN_MS = 2_000
_TICK = encode(Tick())


class SelectorEffects(Effects[Selections, SelectorInput]):
    """Checks signatures before a decision, answers the device after it."""

    def __init__(self, signer: Signer, operator_events: OperatorEvents, *, deployment: bytes) -> None:
        self._signer, self._operator_events, self._deployment = signer, operator_events, deployment

    def read(self, state: Selections, record: Record) -> Arrival | None:
        """A signed check-in, a signed end of a lease, or a tick."""
        try:
            # A tick needs no signature: all that it does is let log time pass, as every record does.
            if record.value == _TICK:
                return Arrival(Tick())
            message = parse_signed(record.value or b"")
            said = decode(message.payload, DeviceCheckedIn | LeaseAbandoned)  # type: ignore[arg-type]
        except MalformedError:
            return None
        # A device is its key: nothing reaches the decider under an id of which the sender does not hold the key.
        is_own = said.device == name_device(said.public_key)
        # Nor by what was sent to another deployment, and copied from there.
        if not (is_own and is_checkin_signed(message, said.public_key, deployment=self._deployment)):
            return None
        return Arrival(said, hashlib.sha256(record.value or b"").digest())

    def look_up(self, said: Sequence[JournalEvent]) -> None:
        """Read what the operator signed, as far as these events need it. Raises LogUnavailable."""
        self._operator_events.look_up(said)

    def receive(self, said: JournalEvent) -> Arrival | None:
        """What the aggregator says; of a task's life only what the operator signed."""
        return Arrival(said) if self._operator_events.vouch_for(said) else None

    def follow_up(
        self, state: Selections, arrival: Arrival, *, events: Sequence[JournalEvent], time_ms: int
    ) -> FollowUp:
        """The answer to a check-in; what it says follows from the state alone."""
        checkin = arrival.input
        if not isinstance(checkin, DeviceCheckedIn):
            return NOTHING
        return FollowUp(answers=[self._answer(state.tasks.get(checkin.task), arrival, events=events, time_ms=time_ms)])

    def _answer(self, task: Task | None, arrival: Arrival, *, events: Sequence[JournalEvent], time_ms: int) -> Answer:
        checkin, digest = arrival
        assert isinstance(checkin, DeviceCheckedIn)
        assert isinstance(digest, bytes)
        match events:
            case [CheckinsDeclined(counts=counts)]:
                # One check-in gives one reason; counts are added up only later, on their way into the journal.
                [reason] = counts
                wait_ms = _choose_wait_ms(task, reason, device=checkin.device, time_ms=time_ms)
                return Declined(
                    device=checkin.device,
                    checkin_sha256=digest,
                    task=checkin.task,
                    reason=reason,
                    retry_after_ms=wait_ms,
                )
        assert task is not None
        lease = task.leases[checkin.device]
        # Signed anew for each answer: the same lease gives the same bytes, so that no signature has to be kept.
        sealed = sign_lease(_as_lease(lease, task.created), self._signer)
        return Granted(device=checkin.device, checkin_sha256=digest, sealed=sealed, model=lease.model)

    def wants_tick(self, state: Selections) -> bool:
        """Leases expire by log time."""
        # Where no lease is open nothing can expire, and ticks would only lengthen the topic.
        return any(task.leases for task in state.tasks.values())


def _choose_wait_ms(task: Task | None, reason: DeclineReason, *, device: str, time_ms: int) -> int:
    if task is None:
        return _RETRY_UNKNOWN_MS
    if reason == "not_drawn":
        return max(1, task.find_wait_ms(device, time_ms))
    if reason == "gave_up":
        return max(1, task.resting[device] - time_ms)
    return round(task.created.policy.selection.retry_after_s * 1000) * (LATER if reason in _LASTING else 1)


def _as_lease(lease: OpenLease, created: TaskCreated) -> Lease:
    granted = lease.granted
    return Lease(
        deployment=created.deployment,
        lease=granted.lease,
        task=granted.task,
        device=granted.device,
        public_key=granted.public_key,
        version=granted.version,
        model_sha256=lease.model.sha256,
        deadline_ms=granted.deadline_ms,
        policy_sha256=created.policy_sha256,
    )


class SelectorMeter(Meter):
    """Counts leases and declined check-ins."""

    def __init__(self, instruments: Instruments) -> None:
        self._declined = instruments.counter("checkins_declined", "Check-ins without a lease", "task", "reason")
        self._abandoned = instruments.counter("leases_abandoned", "Leases that devices gave up", "task", "reason")
        self._leases = instruments.counter("leases", "Leases granted and closed", "task", "event")

    def count(self, event: JournalEvent, time_ms: int) -> None:
        """Leases by what happened to them, declined check-ins by reason."""
        match event:
            case CheckinsDeclined():
                for reason, count in event.counts.items():
                    # Only tasks that exist have a name here: each label costs memory until the process ends.
                    self._declined.labels(event.task or "", reason).inc(count)
            case LeaseGranted():
                self._leases.labels(event.task, "granted").inc()
            case LeaseClosed():
                self._leases.labels(event.task, event.outcome).inc()
                if event.reason is not None:
                    self._abandoned.labels(event.task, event.reason).inc()


def make_effects(log: EventLog, partition: int, *, key: RoleKey) -> SelectorEffects:
    """The effects of the role."""
    return SelectorEffects(key.signer, OperatorEvents(log, partition, key=key), deployment=key.deployment)


def make_meter(instruments: Instruments) -> SelectorMeter:
    """The meter of the role."""
    return SelectorMeter(instruments)
