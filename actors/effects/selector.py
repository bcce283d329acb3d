"""Effects of the selector: check-ins with a valid signature come in, signed leases and declines go out."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from msgspec import UNSET

from actors.deciders.selecting.eligibility import CheckedIn
from actors.deciders.selecting.state import LATER, OpenLease, Selections, Task
from actors.deciders.selector import SelectorInput
from actors.effects.operator_events import OperatorEvents
from actors.keys import RoleKey
from actors.runtime.effects import NOTHING, Arrival, Effects, FollowUp
from actors.runtime.meter import Instruments, Meter
from schemas.canonical import MalformedError, decode, encode
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
from schemas.identity.certificates import DeviceCertificate, open_certificate
from schemas.leases import Lease, sign_lease
from schemas.signing import parse_signed
from streams.log import EventLog, Record

# Reasons that will not pass soon.
_LASTING: frozenset[DeclineReason] = frozenset(
    {
        *("closed", "participations", "quarantined"),
        *("not_enrolled", "certificate_expired", "other_population", "other_class", "revoked"),
    }
)
_RETRY_UNKNOWN_MS = 2_000
_TICK = encode(Tick())


class SelectorEffects(Effects[Selections, SelectorInput]):
    """Checks signatures before a decision, answers the device after it."""

    def __init__(self, key: RoleKey, operator_events: OperatorEvents) -> None:
        self._signer, self._trust, self._deployment = key.signer, key.trust(), key.deployment
        self._operator_events = operator_events

    def read(self, state: Selections, record: Record) -> Arrival | None:
        """A signed check-in, a signed end of a lease, or a tick."""
        try:
            # A tick needs no signature: all that it does is let log time pass, as every record does. A record has one:
            # each may close a thousand leases, and what is decided on a record goes into one of the journal's.
            if record.value == _TICK and not record.message:
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
        digest = hashlib.sha256(record.value or b"").digest()
        if not isinstance(said, DeviceCheckedIn):
            return Arrival(said, digest)
        found = self._find_certificate(state, said, at_ms=record.time_ms)
        return Arrival(said if found is None else CheckedIn(said, found), digest)

    def _find_certificate(self, state: Selections, checkin: DeviceCheckedIn, *, at_ms: int) -> DeviceCertificate | None:
        """What a registrar says of the device, where its task asks for that."""
        task = state.tasks.get(checkin.task)
        # Two signatures more are checked only where somebody asks for them.
        if task is None or not task.created.policy.is_enrolled or checkin.certificate is UNSET:
            return None
        return open_certificate(checkin.certificate, self._trust, at_ms=at_ms)

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
        said, digest = arrival
        asked = CheckedIn(said) if isinstance(said, DeviceCheckedIn) else said
        if not isinstance(asked, CheckedIn):
            return NOTHING
        return FollowUp(answers=[self._answer(state, Arrival(asked, digest), events=events, time_ms=time_ms)])

    def _answer(self, state: Selections, arrival: Arrival, *, events: Sequence[JournalEvent], time_ms: int) -> Answer:
        asked, digest = arrival
        assert isinstance(asked, CheckedIn)
        assert isinstance(digest, bytes)
        checkin = asked.checkin
        task = state.tasks.get(checkin.task)
        match events:
            case [CheckinsDeclined(counts=counts)]:
                # One check-in gives one reason; counts are added up only later, on their way into the journal.
                [reason] = counts
                wait_ms = _choose_wait_ms(task, reason, asked=asked, time_ms=time_ms)
                return Declined(
                    device=checkin.device,
                    checkin_sha256=digest,
                    task=checkin.task,
                    reason=reason,
                    retry_after_ms=wait_ms,
                )
        assert task is not None
        lease = task.leases[asked.name_unit(task.created)]
        # Signed anew for each answer: the same lease gives the same bytes, so that no signature has to be kept.
        sealed = sign_lease(_as_lease(lease, task.created), self._signer)
        epoch = lease.granted.epoch
        statement = UNSET if epoch is UNSET or task.epochs is UNSET else task.epochs.get(epoch, UNSET)
        return Granted(
            device=checkin.device,
            checkin_sha256=digest,
            sealed=sealed,
            model=lease.model,
            epoch_key=statement,
            cosigned=state.find_cosigned(checkin.task).join(lease.granted.version) or UNSET,
        )

    def wants_tick(self, state: Selections) -> bool:
        """Leases expire by log time."""
        # Where no lease is open nothing can expire, and ticks would only lengthen the topic.
        return any(task.leases for task in state.tasks.values())


def _choose_wait_ms(task: Task | None, reason: DeclineReason, *, asked: CheckedIn, time_ms: int) -> int:
    if task is None:
        return _RETRY_UNKNOWN_MS
    if reason == "not_drawn":
        return max(1, task.find_wait_ms(asked.name_unit(task.created), time_ms))
    if reason == "gave_up":
        return max(1, task.resting[asked.name_unit(task.created)] - time_ms)
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
        subject=granted.subject,
        epoch=granted.epoch,
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
    return SelectorEffects(key, OperatorEvents(log, partition, key=key))


def make_meter(instruments: Instruments) -> SelectorMeter:
    """The meter of the role."""
    return SelectorMeter(instruments)
