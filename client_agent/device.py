"""One device and one task: check in, and under a lease fetch, train, protect, compress, store, publish.

`DeviceLoop` calls `wake`, `receive` and `take_address` with the time, and gets the time at which to wake the device
next. There is no clock and no sleep in here, so a phone, a fleet and a deterministic simulation run the same code.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import structlog
from msgspec import UNSET

from client_agent.answers import OpenCheckins, find_lease, find_objection, find_seal_objection
from client_agent.counts import Counts
from client_agent.learning.layout import Model
from client_agent.learning.learner import Context, derive_seed
from client_agent.learning.state import decode_state
from client_agent.learning.trainer import Coming
from client_agent.link import Link, StoredBody
from client_agent.local_update import LocalUpdate, make_update, protect_update
from client_agent.outbox.giving_up import CAUSES, GivenUp, make_report, name_reason, noticing_full_disk
from client_agent.outbox.outbox import Entry, Outbox, OutboxError, read_state
from client_agent.schedule import Schedule
from client_agent.setting import DeviceSetting
from schemas.devices import sign_checkin
from schemas.events import (
    VECTOR_ROLES,
    Answer,
    Declined,
    DeviceCheckedIn,
    Enrolled,
    EnrolmentRefused,
    Granted,
    Outcome,
    TaskCreated,
    count_elements,
)
from schemas.identifiers import BodyRef
from schemas.leases import Lease
from schemas.policy import name_stored_codec

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Work:
    """A lease accepted at `since_ms`, to be worked on at `ready_ms`."""

    lease: Lease
    granted: Granted
    since_ms: int
    ready_ms: int


class Device:
    """A device at work on one task.

    LinkUnavailable passes through: the device then is where it was before, and is to be woken again a little later.
    """

    def __init__(self, link: Link, setting: DeviceSetting) -> None:
        identity, profile = setting.identity, setting.profile
        self.setting = setting
        self.counts = Counts()
        self.declined_for = ""
        # Why the last lease ended without a trained update: most often something that the machine's owner can change.
        self.given_up_for = self._refused_lease = ""
        self._report: tuple[str, bytes] | None = None  # of the newest lease that was given up
        self._link = link
        self._outbox = Outbox(
            setting.folder, setting.task, identity=identity, synced=setting.synced, note_step=profile.note_step
        )
        self._schedule = Schedule(identity.device, setting.task, updates=[e.update for e in self._outbox.entries])
        self._asked = OpenCheckins()
        self._work: _Work | None = None

    @property
    def is_training(self) -> bool:
        """Whether the device has accepted a lease and not yet kept its update."""
        return self._work is not None

    def wake(self, now_ms: int) -> int:
        """Do what is due at `now_ms`; return when to be woken next."""
        if (return_ms := self.setting.profile.find_return_ms(now_ms)) > now_ms:
            return return_ms
        self._outbox.forget(now_ms)
        if self._work is not None and now_ms >= self._work.ready_ms:
            self._carry_out(self._work, now_ms)
            # Training takes time, and the wait for an outcome begins after it.
            now_ms = max(now_ms, self.setting.clock_ms())
        for entry in self._outbox.entries:
            if now_ms >= self._schedule.find_resend_ms(entry.update):
                self._publish(entry.update, now_ms)
        if self._may_check_in(now_ms) and now_ms >= self._schedule.checkin_ms:
            self._check_in(now_ms)
        return self._find_next_ms(now_ms)

    def foresee_training(self, now_ms: int) -> Coming | None:
        """What `wake` would ask its trainer for at `now_ms`; None where it trains nothing then, or cannot."""
        work, profile = self._work, self.setting.profile
        if work is None or now_ms < work.ready_ms or profile.find_return_ms(now_ms) > now_ms:
            return None
        # Whatever goes wrong is met again when the device is woken, which then says so.
        with contextlib.suppress(Exception):
            _, model, context = _prepare(self._link, self.setting, work=work, state=self._outbox.state, now_ms=now_ms)
            return Coming(self.setting.trainer, model, context)
        return None

    def receive(self, answer: Answer, now_ms: int) -> int:
        """Act on an answer; return when to be woken next. A foreign or outdated answer changes nothing."""
        match answer:
            case Granted():
                self._accept(answer, now_ms)
            case Declined() if self._asked.take(answer.checkin_sha256):
                self._wait(answer, now_ms)
            case Outcome() if answer.task == self.setting.task:
                self._settle(answer, now_ms)
            case Enrolled() | EnrolmentRefused() if self.setting.membership is not None:
                self.setting.membership.take(answer)
        return self._find_next_ms(now_ms)

    def take_address(self, stored: StoredBody, now_ms: int) -> int:
        """The body of an update is stored: submit the update; return when to be woken next."""
        self._outbox.keep_address(stored.update, stored.address)
        # Other devices of the process may have trained since this step began.
        now_ms = max(now_ms, self.setting.clock_ms())
        self._publish(stored.update, now_ms)
        return self._find_next_ms(now_ms)

    def _check_in(self, now_ms: int) -> None:
        created = self._link.find_task(self.setting.task)
        self._schedule.note_checkin(now_ms)
        if self.setting.membership is not None:
            self.setting.membership.renew(self._link, now_ms)
        # A task that is not there yet has no deployment to ask in.
        if created is not None:
            message = _describe(self.setting, created, now_ms=now_ms, sent_ms=self._schedule.choose_sent_ms(now_ms))
            self._link.check_in(self.setting.task, message)
            self._asked.note(message)
            self.counts.checked_in += 1

    def _wait(self, declined: Declined, now_ms: int) -> None:
        """Ask again later; with a lease at work the answer is to an older check-in, and changes nothing."""
        if self._work is None:
            self.counts.declined += 1
            self.declined_for = declined.reason
            self._schedule.note_declined(declined.reason, retry_after_ms=declined.retry_after_ms, now_ms=now_ms)

    def _accept(self, granted: Granted, now_ms: int) -> None:
        """Take the lease, unless one is at work, it is not for this device, or it is over."""
        # Whatever comes now, the work in hand was trained for and is finished first.
        if self._work is not None:
            return
        lease = find_lease(granted, self.setting.identity, task=self.setting.task)
        if lease is None or not self._asked.take(granted.checkin_sha256):
            logger.debug("lease_rejected", device=granted.device, reason="no answer to a check-in of this device")
            return
        self._schedule.note_grant()
        self.declined_for = ""
        if self._schedule.is_tracking(lease.lease):
            # The selector would grant another lease if it knew of the update: it must have got lost.
            self._schedule.send_at_once(lease.lease, now_ms)
        elif lease.lease == self._refused_lease or self._outbox.is_over(lease.lease):
            self._schedule.note_spent_lease(now_ms)
            self._send_report(lease.lease)
        else:
            self._schedule.note_new_lease()
            training_ms = self.setting.profile.choose_training_ms(lease.lease, self.setting.sample_count)
            self._work = _Work(lease, granted, now_ms, now_ms + training_ms)
            # Last, because a simulated device may crash in here.
            self.setting.profile.note_step("granted")

    def _carry_out(self, work: _Work, now_ms: int) -> None:
        """Afterwards the lease's update is in the outbox, or the lease is given up."""
        try:
            self._train(work, now_ms)
            self._schedule.send_at_once(work.lease.lease, now_ms)
        except CAUSES as error:
            self._give_up(work.lease, error, now_ms=now_ms)
        self._work = None

    def _give_up(self, lease: Lease, error: Exception, *, now_ms: int) -> None:
        logger.warning("lease_given_up", device=lease.device, lease=lease.lease, reason=str(error))
        report = make_report(self._link.find_task(lease.task), lease, identity=self.setting.identity, error=error)
        # The owner may start this device again with the code allowed, and a full disk takes no note.
        if name_reason(error) in ("not_allowed", "no_space"):
            self._refused_lease = lease.lease
        else:
            self._outbox.give_up(lease.lease, now_ms)
        self.counts.given_up += 1
        self._note_failure(str(error))
        self._schedule.note_given_up(now_ms)
        self._report = None if report is None else (lease.lease, report)
        self._send_report(lease.lease)

    def _send_report(self, lease: str) -> None:
        if self._report is not None and self._report[0] == lease:
            self._link.abandon(self.setting.task, self._report[1])
            self.setting.profile.note_step("abandoned")

    def _train(self, work: _Work, now_ms: int) -> None:
        """Fetch, train, protect, compress, and keep the update. Raises those that give a lease up."""
        setting = self.setting
        created, model, context = _prepare(self._link, setting, work=work, state=self._outbox.state, now_ms=now_ms)
        policy = created.policy
        made = make_update(setting, model, residual=self._outbox.residual, context=context, size=created.parameters)
        self.counts.trained += not made.failure
        if made.failure:
            self.counts.untrained += 1
            self._note_failure(made.failure)
        setting.profile.note_step("trained")
        # A training that failed may have changed what it was given: the device remembers what it did before.
        state = self._outbox.state if made.failure else made.state
        with noticing_full_disk():
            entry = _make_entry(setting, work, made=made, created=created, now_ms=now_ms)
            self._outbox.keep(entry, made.compressed.residual, state=state)
        _warn_if_late(work, policy.lease_ms, now_ms=max(now_ms, setting.clock_ms()))

    def _note_failure(self, reason: str) -> None:
        self.given_up_for = reason
        self.counts.note_reason(reason)

    def _publish(self, update: str, now_ms: int) -> None:
        """Submit the update, or store its body first. Without an answer, either is repeated later."""
        if (body := self._outbox.find_unstored_body(update)) is not None:
            self._link.store(body)
            self._schedule.await_address(update, now_ms)
            return
        self._link.submit(self.setting.task, self._outbox.read_submission(update))
        self.setting.profile.note_step("sent")
        self._schedule.await_outcome(update, now_ms)

    def _settle(self, outcome: Outcome, now_ms: int) -> None:
        # Only the server can have read the record: it does not settle what was never sent.
        if not self._outbox.has_submitted(outcome.update, outcome.record_sha256):
            return
        created = self._link.find_task(outcome.task)
        if created is None or not self._outbox.settle(outcome.update, outcome.outcome, policy=created.policy):
            return
        self._schedule.note_outcome(outcome.update, now_ms, is_late=outcome.outcome == "expired")
        self.counts.note_outcome(outcome.outcome)
        if outcome.outcome != "admitted":
            logger.info("update_refused", device=outcome.device, update=outcome.update, reason=outcome.outcome)

    def _may_check_in(self, now_ms: int) -> bool:
        """Not while an update is on its way: the selector would only grant its lease again."""
        return self._work is None and all(entry.until_ms < now_ms for entry in self._outbox.entries)

    def _find_next_ms(self, now_ms: int) -> int:
        entries = self._outbox.entries
        deadlines_ms = [entry.until_ms + 1 for entry in entries if entry.until_ms >= now_ms]
        checkin_ms = max([self._schedule.checkin_ms, *deadlines_ms])
        due_ms = [self._schedule.find_resend_ms(entry.update, now_ms) for entry in entries]
        return max(now_ms, min([*due_ms, checkin_ms if self._work is None else self._work.ready_ms]))


def _prepare(
    link: Link, setting: DeviceSetting, *, work: _Work, state: bytes | None, now_ms: int
) -> tuple[TaskCreated, Model, Context]:
    """What a training starts from. Raises those that give a lease up."""
    created = _find_task(link, work, now_ms=now_ms, setting=setting)
    # Before anything that the policy names is looked for: it may be anybody's code.
    setting.allowed.check_policy(created.policy)
    left_s = (work.since_ms + created.policy.lease_ms - now_ms) / 1000
    model = _fetch_model(link, created, ref=work.granted.model, timeout_s=left_s)
    return created, model, _make_context(setting, work, created=created, state=state, now_ms=now_ms)


def _find_task(link: Link, work: _Work, *, now_ms: int, setting: DeviceSetting) -> TaskCreated:
    """The task as the lease knows it. Raises GivenUp when it differs or cannot be trained, or time is up."""
    created = link.find_task(work.lease.task)
    objection = find_objection(created, work.lease, bytes_max=setting.model_bytes_max, at_ms=work.since_ms)
    if created is None or objection is not None:
        raise GivenUp(objection)
    if (objection := find_seal_objection(created, work.granted, lease=work.lease, pinned=setting.helpers)) is not None:
        raise GivenUp(objection)
    # By the device's own clock only a duration can be judged; the deadline is in the log's time.
    if now_ms > work.since_ms + created.policy.lease_ms:
        raise GivenUp("its deadline has passed", reason="overdue")
    return created


def _fetch_model(link: Link, created: TaskCreated, *, ref: BodyRef, timeout_s: float) -> Model:
    """What the training starts from. A measure task looks at its subject, whatever was released since."""
    tensors = created.tensors
    if created.subject is not None:
        # The answer names the newest release, which is an answer of the fleet and no model.
        ref, tensors = created.subject.model, created.subject.tensors
    size, frozen = count_elements(tensors, *VECTOR_ROLES), None
    vector = link.fetch_model(created, ref, size=size, timeout_s=timeout_s)
    # What the fleet has reported is in a version too, and no learner trains it.
    vector = vector[: size - count_elements(tensors, "reported")]
    if created.frozen is not None:
        size = count_elements(tensors, "frozen")
        frozen = link.fetch_model(created, created.frozen, size=size, timeout_s=timeout_s)
    return Model(vector, frozen)


def _make_context(
    setting: DeviceSetting, work: _Work, *, created: TaskCreated, state: bytes | None, now_ms: int
) -> Context:
    # By the clock once more, because fetching takes time too.
    left_ms = work.since_ms + created.policy.lease_ms - max(now_ms, setting.clock_ms())
    lease = work.lease
    return Context(
        version=lease.version,
        seed=derive_seed(created.policy, setting.place or setting.identity.label, version=lease.version),
        policy=created.policy,
        device=lease.device,
        folder=setting.folder,
        state={} if state is None else decode_state(state),
        lease=lease.lease,
        left_s=left_ms / 1000,
        measured={} if created.subject is None else _read_measured(setting, created.subject.task),
        cohort=setting.cohort,
    )


def _make_entry(setting: DeviceSetting, work: _Work, *, made: LocalUpdate, created: TaskCreated, now_ms: int) -> Entry:
    """What the outbox keeps of a trained update."""
    policy, lease = created.policy, work.lease
    sent = protect_update(created, lease, made=made, granted=work.granted)
    is_plain = sent.envelope is None
    return Entry(
        update=lease.lease,
        until_ms=now_ms + policy.lease_ms,
        sealed=work.granted.sealed,
        samples=setting.sample_count,
        # What is told of a sealed update is told inside it.
        metrics=made.metrics if is_plain else (),
        fidelity=made.fidelity if is_plain else None,
        codec=name_stored_codec(policy),
        body=made.compressed.body,
        envelope=sent.envelope,
        seals=sent.seals,
        sha256=sent.sha256,
        shards=policy.shard_count,
    )


def _read_measured(setting: DeviceSetting, task: str) -> dict[str, Any]:
    """What this device keeps of the task that it is asked about. Raises GivenUp, LearnerError."""
    try:
        kept = read_state(setting.folder, task)
    # The file is another task's: it must not end the device that answers.
    except OutboxError as error:
        raise GivenUp(str(error)) from error
    return {} if kept is None else decode_state(kept)


def _warn_if_late(work: _Work, lease_ms: int, *, now_ms: int) -> None:
    """Say so where training outlasted the lease: the update comes too late, and so would the next one."""
    if (took_ms := now_ms - work.since_ms) > lease_ms:
        logger.warning(
            "training_outlasts_lease",
            device=work.lease.device,
            training_s=took_ms / 1000,
            lease_s=lease_ms / 1000,
        )


def _describe(setting: DeviceSetting, created: TaskCreated, *, now_ms: int, sent_ms: int) -> bytes:
    """The signed check-in."""
    conditions = setting.profile.read_conditions(now_ms)
    checkin = DeviceCheckedIn(
        task=setting.task,
        device=setting.identity.device,
        public_key=setting.identity.public_key,
        sent_ms=sent_ms,
        battery_percent=conditions.battery_percent,
        charging=conditions.charging,
        unmetered=conditions.unmetered,
        idle=conditions.idle,
        samples=setting.sample_count,
        cohort=setting.cohort,
        certificate=(created.policy.is_enrolled and setting.membership and setting.membership.certificate) or UNSET,
        running=UNSET if setting.running is None else setting.running,
    )
    return sign_checkin(checkin, setting.identity.key, deployment=created.deployment)
