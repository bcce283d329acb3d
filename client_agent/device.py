"""One device and one task: check in, fetch, train, protect, compress, publish, learn the outcome.

No clock of its own, no sleep: whoever drives a device calls `wake` and `answered` with the time, and gets the time at
which the device wants to be woken next. So a phone, a fleet and a deterministic simulation run the same code.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Protocol

import structlog

from client_agent.compression import compress
from client_agent.identity import Identity
from client_agent.learning.data import Examples
from client_agent.links.kafka import Link, ModelMissing
from client_agent.outbox.outbox import Entry, Outbox
from client_agent.privacy import NotFiniteError
from schemas.canonical import MalformedError, encode
from schemas.errors import FedlogError
from schemas.events import Answer, Declined, DeviceCheckedIn, Granted, Outcome
from schemas.identifiers import BodyRef
from schemas.leases import Lease, read_lease
from schemas.policy import Policy
from schemas.signing import sign
from schemas.tensors import Floats
from schemas.topics import CHECKINS, partition_of
from streams.log import Draft

ANSWER_MS = 4_000  # no answer after this long: ask again, ever more slowly
ANSWER_MS_MAX = 60_000
REST_MS = 50  # between an outcome and the next check-in; longer where the selector has not heard of it by then
OVER_MS = 30_000  # nothing more to do for now: the task is closed, or this device has given its share


class Train(Protocol):
    """Local training, for instance `client_agent.learning.classification.train`."""

    def __call__(self, policy: Policy, flat: Floats, *examples: *Examples, seed: int) -> Floats:
        """What training on `examples` changes in `flat`, shape (parameters,)."""
        ...


_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What a check-in says about the device's state."""

    battery_percent: int = 100
    charging: bool = True
    unmetered: bool = True
    idle: bool = True


class Life(Protocol):
    """What happens to a device from outside: a person's habits, or a simulation's draws."""

    def conditions(self, now_ms: int) -> Conditions:
        """Battery and network now."""
        ...

    def away_until_ms(self, now_ms: int) -> int:
        """When the device is reachable again; `now_ms` or less while it is."""
        ...

    def training_ms(self, lease: str, samples: int) -> int:
        """How long this training shall take; 0: as long as it takes."""
        ...

    def passed(self, step: str) -> None:
        """A step is done; what this raises stops the device there."""
        ...


class Plain:
    """A real device's life: here, under fixed conditions, at its own pace."""

    def __init__(self, conditions: Conditions | None = None) -> None:
        self._conditions = conditions or Conditions()

    def conditions(self, now_ms: int) -> Conditions:
        return self._conditions

    def away_until_ms(self, now_ms: int) -> int:
        return now_ms

    def training_ms(self, lease: str, samples: int) -> int:
        return 0

    def passed(self, step: str) -> None:
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What one device is made of."""

    task: str
    identity: Identity
    folder: Path
    examples: Examples
    train: Train
    life: Life = field(default_factory=Plain)
    cohort: str = ""
    synced: bool = True  # whether the outbox survives the machine, not only the process
    clock_ms: Callable[[], int] = lambda: 0  # what time it is after work; 0 where work takes no time


@dataclass(slots=True)
class Counts:
    """What a device did since it was started."""

    checked_in: int = 0
    declined: int = 0
    trained: int = 0
    admitted: int = 0
    refused: int = 0

    def __add__(self, other: Counts) -> Counts:
        """Both together."""
        return Counts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


@dataclass(frozen=True, slots=True)
class _Work:
    """A lease taken up at `since_ms`, to be trained and published at `ready_ms`."""

    lease: Lease
    sealed: bytes
    model: BodyRef
    since_ms: int
    ready_ms: int


class GivenUp(FedlogError):
    """There will be no update under this lease."""

    code = "lease_given_up"


class Device:
    """A device at work on one task.

    LogUnavailable passes through: the device then stands where it stood, and is to be woken again a little later.
    """

    def __init__(self, link: Link, setting: Setting) -> None:
        self.setting = setting
        self.counts = Counts()
        self.declined_for = ""
        self._link = link
        self._outbox = Outbox(
            setting.folder,
            setting.task,
            identity=setting.identity,
            synced=setting.synced,
            passed=setting.life.passed,
        )
        self._work: _Work | None = None
        self._random = random.Random(f"{setting.identity.device}/{setting.task}")
        self._checkin_ms = 0
        self._unanswered = 0
        self._early = 0  # check-ins in a row that were answered with a lease which is over
        self._resend_ms = dict.fromkeys((entry.update for entry in self._outbox.entries), 0)
        self._sent: dict[str, int] = {}

    @property
    def is_training(self) -> bool:
        """Whether a lease is taken up and not yet published."""
        return self._work is not None

    def wake(self, now_ms: int) -> int:
        """Do what is due at `now_ms`; return when to be woken next."""
        if (back_ms := self.setting.life.away_until_ms(now_ms)) > now_ms:
            return back_ms
        self._outbox.forget(now_ms)
        if self._work is not None and now_ms >= self._work.ready_ms:
            self._train_and_keep(self._work, now_ms)
            now_ms = max(now_ms, self.setting.clock_ms())  # an outcome is waited for from here on
        for entry in self._outbox.entries:
            if now_ms >= self._resend_ms.get(entry.update, 0):
                self._send(entry.update, now_ms)
        if self._may_check_in(now_ms) and now_ms >= self._checkin_ms:
            self._check_in(now_ms)
        return self._next_ms(now_ms)

    def answered(self, answer: Answer, now_ms: int) -> int:
        """Take an answer in; return when to be woken next. Anything foreign or outdated changes nothing."""
        match answer:
            case Granted():
                self._granted(answer, now_ms)
            case Declined() if answer.task == self.setting.task and self._work is None:
                self.counts.declined += 1
                self.declined_for = answer.reason
                self._unanswered = self._early = 0
                self._checkin_ms = now_ms + self._wait_ms(answer)
            case Outcome() if answer.task == self.setting.task:
                self._settle(answer, now_ms)
        return self._next_ms(now_ms)

    def stored(self, now_ms: int, *, update: str, body: BodyRef) -> int:
        """The body of `update` lies there: submit it; return when to be woken next."""
        self._outbox.address(update, body)
        now_ms = max(now_ms, self.setting.clock_ms())
        self._send(update, now_ms)
        return self._next_ms(now_ms)

    def _check_in(self, now_ms: int) -> None:
        setting, now = self.setting, self.setting.life.conditions(now_ms)
        fact = DeviceCheckedIn(
            task=setting.task,
            device=setting.identity.device,
            public_key=setting.identity.public_key,
            battery_percent=now.battery_percent,
            charging=now.charging,
            unmetered=now.unmetered,
            idle=now.idle,
            samples=len(setting.examples[1]),
            cohort=setting.cohort,
        )
        value = sign(encode(fact), setting.identity.key)
        self._link.send(Draft(topic=CHECKINS.name, partition=partition_of(setting.task), value=value))
        self.counts.checked_in += 1
        self._checkin_ms = now_ms + self._patience_ms(self._unanswered)
        self._unanswered += 1

    def _granted(self, answer: Granted, now_ms: int) -> None:
        """Take the lease up, unless it is foreign, at work already, or over."""
        lease = _lease(answer.sealed)
        if lease is None or lease.device != self.setting.identity.device or lease.task != self.setting.task:
            return
        if lease.public_key != self.setting.identity.public_key or lease.model_sha256 != answer.model.sha256:
            _log.warning("lease_refused", device=lease.device, lease=lease.lease, reason="not for this key or model")
            return
        self._unanswered = 0
        self.declined_for = ""
        if lease.lease in self._resend_ms:
            self._resend_ms[lease.lease] = now_ms  # trained already, but the update seems lost
        elif self._outbox.is_over(lease.lease):
            self._early += 1
            self._checkin_ms = now_ms + self._jittered(min(REST_MS << min(self._early, 16), ANSWER_MS_MAX))
        elif self._work is None or self._work.lease.lease != lease.lease:
            self._early = 0
            takes_ms = self.setting.life.training_ms(lease.lease, len(self.setting.examples[1]))
            self._work = _Work(lease, answer.sealed, answer.model, now_ms, now_ms + takes_ms)
            self.setting.life.passed("granted")

    def _train_and_keep(self, work: _Work, now_ms: int) -> None:
        """Fetch, train, protect, compress: afterwards the update is in the outbox, or the lease is given up."""
        lease = work.lease
        try:
            self._outbox.keep(*self._trained(work, now_ms))
        except GivenUp as error:
            _log.warning("lease_given_up", device=lease.device, lease=lease.lease, reason=str(error))
            self._outbox.give_up(lease.lease, now_ms)
            self._checkin_ms = now_ms + self._patience_ms(0)
        else:
            self._resend_ms[lease.lease] = now_ms
        self._work = None

    def _trained(self, work: _Work, now_ms: int) -> tuple[Entry, Floats | None]:
        """The update, and the residual that it leaves. Raises GivenUp."""
        lease, setting = work.lease, self.setting
        created = self._link.task(lease.task)
        if created is None or created.policy_sha256 != lease.policy_sha256:
            raise GivenUp(f"task {lease.task!r} has another policy in the log than in the lease")
        policy = created.policy
        if now_ms > work.since_ms + policy.lease_ms:
            raise GivenUp("its deadline has passed")
        try:
            model = self._link.model(work.model, created.parameters)
            delta = setting.train(policy, model, *setting.examples, seed=_seed(lease))
            self.counts.trained += 1
            setting.life.passed("trained")
            residual = self._outbox.residual
            if residual is not None and residual.size != delta.size:
                residual = None
            made = compress(delta, residual, policy=policy)
        except (NotFiniteError, ModelMissing) as error:
            raise GivenUp(str(error)) from error
        entry = Entry(
            update=lease.lease,
            until_ms=now_ms + policy.lease_ms,
            sealed=work.sealed,
            samples=len(setting.examples[1]),
            codec=policy.compression.codec,
            body=made.body,
            shards=policy.shard_count,
        )
        return entry, made.residual

    def _send(self, update: str, now_ms: int) -> None:
        """Submit `update`, or first have its body stored; what comes to nothing is repeated like what has no answer."""
        if (upload := self._outbox.upload(update)) is not None:
            self._link.store(self.setting.identity.device, upload)
            self._resend_ms[update] = now_ms + self._patience_ms(0)
            return
        self._link.send(self._outbox.draft(update))
        self.setting.life.passed("sent")
        times = self._sent.get(update, 0)
        self._sent[update] = times + 1
        self._resend_ms[update] = now_ms + self._patience_ms(times)

    def _settle(self, answer: Outcome, now_ms: int) -> None:
        created = self._link.task(answer.task)
        if created is None or not self._outbox.settle(answer.update, answer.outcome, policy=created.policy):
            return
        self._resend_ms.pop(answer.update, None)
        self._sent.pop(answer.update, None)
        if answer.outcome == "admitted":
            self.counts.admitted += 1
        else:
            self.counts.refused += 1
            _log.info("update_refused", device=answer.device, update=answer.update, reason=answer.outcome)
        self._checkin_ms = now_ms + self._jittered(REST_MS)

    def _may_check_in(self, now_ms: int) -> bool:
        """Not while an update is under way: its lease would only be granted again."""
        return self._work is None and all(entry.until_ms < now_ms for entry in self._outbox.entries)

    def _next_ms(self, now_ms: int) -> int:
        due = [self._resend_ms.get(entry.update, now_ms) for entry in self._outbox.entries]
        if self._work is not None:
            due.append(self._work.ready_ms)
        else:
            under_way = [entry.until_ms + 1 for entry in self._outbox.entries if entry.until_ms >= now_ms]
            due.append(max([self._checkin_ms, *under_way]))
        return max(now_ms, min(due))

    def _wait_ms(self, answer: Declined) -> int:
        if answer.reason in {"closed", "participations"}:
            return self._jittered(max(answer.retry_after_ms, OVER_MS))
        return self._jittered(answer.retry_after_ms)

    def _patience_ms(self, times: int) -> int:
        return self._jittered(min(ANSWER_MS << min(times, 10), ANSWER_MS_MAX))

    def _jittered(self, wait_ms: int) -> int:
        """Up to a quarter longer, so that devices that were turned away together do not come back together."""
        return round(wait_ms * (1 + self._random.random() / 4))


def _lease(sealed: bytes) -> Lease | None:
    try:
        return read_lease(sealed)
    except MalformedError:
        return None


def _seed(lease: Lease) -> int:
    """The same lease trains the same way, should the device die before the update is kept."""
    return int.from_bytes(hashlib.sha256(f"{lease.device}/{lease.lease}".encode()).digest()[:4])
