"""Full replay: fold a partition's journals from their first record, and recompute what they claim from the bodies.

Nothing recorded is compared with itself: weights come from the policy, clip scales and sums from the bodies, models
from sums, noise and the version before, charges from the admissions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from actors.deciders.aggregator import mechanism_of
from actors.deciders.aggregator_state import Rounds, Task, evolve
from actors.deciders.arithmetic import sums
from actors.deciders.arithmetic.accounting import rho
from actors.deciders.decider import digest
from actors.keys import OperatorKey
from actors.runtime.role import Role
from actors.wiring import PRIVACY_ROLE, ROLES
from ops.audit import announcements
from ops.audit.findings import Fault, Findings
from ops.audit.recomputing import Recomputer
from ops.audit.verification import Verification
from schemas.canonical import encode
from schemas.creations import collect_creations
from schemas.events import (
    JournalEvent,
    ModelPublished,
    Noticed,
    RoundCharged,
    RoundProposed,
    StateDigest,
    SumStored,
    TaskCreated,
    UpdateAdmitted,
)
from schemas.journal import Decision, JournalPosition
from schemas.policy import PolicyError, checked
from schemas.published import Head, announced, cloud_event_id
from schemas.topics import LEDGER, ROUNDS, TASKS
from streams.journals import JournalBroken, read_decisions, reject_all
from streams.log import EventLog, LogError, Record, TopicPartition, scan


@dataclass(frozen=True, slots=True)
class Target:
    """The fold ends with this version of the task, or of every task of the partition."""

    version: int
    task: str | None = None


class Stuck(Exception):
    """An event cannot be folded onto what stands before it; `fault` names its record."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(str(fault))
        self.fault = fault


class Audit:
    """Replays one partition. `full` recomputes sums and models; with privacy that needs the operator's key.

    With a target only the aggregator's journal is folded, which makes the versions; the chains of all are followed.
    """

    def __init__(
        self, log: EventLog, partition: int, *, key: OperatorKey | None, full: bool, to: Target | None
    ) -> None:
        self.findings = Findings()
        self.state = Rounds()
        self._log, self._partition = log, partition
        self._accepts = key.accepts if key else reject_all
        self._public_key = key.public_key if key else None
        self._full, self._to = full, to
        self._recomputing = Recomputer(log, partition, key=key, findings=self.findings)
        self._published: dict[str, dict[str, Any]] = {}  # what `published` must hold, by id
        self._seq = -1
        self._charges: dict[tuple[str, int], RoundCharged] = {}
        self._operator = self._created()

    def run(self) -> Findings:
        """All that `fedlog verify` checks, then each fold; one that breaks off is a difference too."""
        check = Verification(self._log, self._partition, accepts_resume=self._accepts, public_key=self._public_key)
        for fault in check.faults():
            self.findings.differs(fault)
        for role in ROLES.values() if self._to is None else ():
            if role.journal not in (LEDGER.name, ROUNDS.name):
                self._is_through(partial(self._fold, role))
        # Versions are compared with charges, so that a ledger that breaks off says nothing about them.
        if self._is_through(self._fold_ledger):
            self._is_through(self._fold_rounds)
        self.findings.reached = [
            f"{name}/{task.version}"
            for name, task in self.state.tasks.items()
            if self._to is None or self._to.task in (None, name)
        ]
        return self.findings

    def _is_through(self, fold: Callable[[], None]) -> bool:
        try:
            fold()
        except JournalBroken as error:
            self.findings.differs(Fault.of_journal(error))
            return False
        except Stuck as error:
            self.findings.differs(error.fault)
            return False
        return True

    def _fold_ledger(self) -> None:
        events = (event for _, decision, _ in self._decisions(LEDGER.name) for event in decision.events)
        self._charges = {(event.task, event.round): event for event in events if isinstance(event, RoundCharged)}
        if self._to is None:
            self._fold(PRIVACY_ROLE)

    def _fold_rounds(self) -> None:
        place = self._place(ROUNDS.name)
        for record, decision, at in self._decisions(ROUNDS.name):
            if self._is_reached():
                self.findings.stopped = 1
                return
            self.findings.decisions += 1
            self._seq = at.seq
            for event in decision.events:
                self.findings.events += 1
                with self._named(record, event):
                    for task, what in self._check(event, decision, at=at):
                        self.findings.differs(Fault(place, record.offset, what, task))
                    evolve(self.state, event, decision.time_ms)
        if self._full and self._to is None:
            for fault in announcements.faults(self._log, self._partition, expected=self._published, seq=self._seq):
                self.findings.differs(fault)

    def _fold(self, role: Role) -> None:
        """Fold another actor's journal; each digest that it recorded on the way must be that of the state here."""
        decider = role.load_decider()
        state = decider.initial()
        for record, decision, _ in self._decisions(role.journal):
            self.findings.decisions += 1
            for event in decision.events:
                self.findings.events += 1
                with self._named(record, event):
                    if isinstance(event, StateDigest) and not decider.recognises(state, event.sha256):
                        what = "StateDigest: the fold gives another"
                        self.findings.differs(Fault(self._place(role.journal), record.offset, what))
                    decider.evolve(state, event, decision.time_ms)

    @contextmanager
    def _named(self, record: Record, event: JournalEvent) -> Iterator[None]:
        """Whatever a damaged event makes our code raise is a finding at its record; a log that fails is not."""
        try:
            yield
        except LogError:
            raise
        except Exception as error:
            what = (
                f"{type(event).__name__} cannot be folded onto what stands before it ({type(error).__name__}: {error})"
            )
            place = TopicPartition(record.topic, record.partition)
            raise Stuck(Fault(place, record.offset, what, _task_of(event))) from error

    def _place(self, topic: str) -> TopicPartition:
        return TopicPartition(topic, self._partition)

    def _is_reached(self) -> bool:
        """Whether every task that counts stands at the target; those to come are known from what the operator wrote."""
        if self._to is None:
            return False
        names = self._operator if self._to.task is None else (self._to.task,)
        tasks = [self.state.tasks.get(name) for name in names]
        return bool(tasks) and all(task is not None and task.version >= self._to.version for task in tasks)

    def _is_asked(self, task: Task) -> bool:
        """Whether the next version of this task is to be recomputed."""
        if self._to is None or not self._full:
            return self._full
        return self._to.task in (None, task.created.task) and task.version < self._to.version

    def _check(self, event: JournalEvent, decision: Decision, *, at: JournalPosition) -> Iterator[tuple[str, str]]:
        faults: Iterable[str] = ()
        match event:
            case Noticed(fact=TaskCreated() as created):
                faults = self._check_created(created)
            case Noticed(fact=RoundCharged() as charged):
                faults = [] if self._charges.get((charged.task, charged.round)) == charged else ["not in the ledger"]
            case UpdateAdmitted():
                faults = self._check_admitted(self.state.tasks[event.task], event)
            case StateDigest() if event.sha256 != digest(self.state):
                faults = ["the fold gives another"]
            case RoundProposed():
                faults = self._check_proposed(self.state.tasks[event.task], event)
            case SumStored() if self._is_asked(self.state.tasks[event.task]):
                faults = self._recomputing.check_sum(self.state.tasks[event.task], event)
            case ModelPublished():
                head = Head(topic=ROUNDS.name, partition=self._partition, seq=at.seq, head=at.head.hex())
                self._published[cloud_event_id(event)] = announced(event, decision.time_ms, head=head)
                faults = self._check_model(self.state.tasks[event.task], event)
        for fault in faults:
            yield _task_of(event), f"{type(event).__name__}: {fault}"

    def _check_created(self, created: TaskCreated) -> Iterator[str]:
        if created.policy_sha256 != hashlib.sha256(encode(created.policy)).digest():
            yield "the policy is not the one of policy_sha256"
        try:
            weights = checked(created.policy).weights()
        except PolicyError as error:
            yield f"a policy that cannot hold: {error}"
            return
        if created.weights != weights:
            yield "the weights are not the policy's"
        if created.parameters != sum(int(np.prod(tensor.shape)) for tensor in created.tensors):
            yield "parameters is not the size of the tensors"
        if created.task not in self._operator:
            self._operator = self._created()  # written since this replay began, or never
        if self._operator.get(created.task) != created:
            yield f"is not what the operator wrote in {TASKS.name}"

    def _check_admitted(self, task: Task, admitted: UpdateAdmitted) -> Iterator[str]:
        if admitted.staleness != task.staleness(admitted.version):
            yield f"update {admitted.update}: staleness {admitted.staleness}, not {task.staleness(admitted.version)}"
        base = task.created.weights[min(admitted.staleness, len(task.created.weights) - 1)]
        most = max(1, task.created.policy.aggregation.samples_max)
        if admitted.weight % max(base, 1) or not base <= admitted.weight <= base * most:
            yield f"update {admitted.update}: weight {admitted.weight}, which staleness {admitted.staleness} never has"

    def _check_proposed(self, task: Task, proposed: RoundProposed) -> Iterator[str]:
        assert task.buffer is not None
        members = [*task.buffer.members.values()]
        if proposed.members_root != sums.members_root(members) or proposed.members != len(members):
            yield f"round {proposed.round}: its members, weights or clip scales are not those admitted"
        if proposed.weight_sum != sum(member.weight for member in members):
            yield f"round {proposed.round}: weight_sum is not the sum of the weights"
        if proposed.participations_max < task.participations_max:
            said, counted = proposed.participations_max, task.participations_max
            yield f"round {proposed.round}: participations_max {said}, counted {counted}"
        promised = mechanism_of(task.created, proposed.mechanism.key_id if proposed.mechanism else b"")
        if proposed.mechanism != promised:
            yield f"round {proposed.round}: the mechanism is not the policy's"

    def _check_model(self, task: Task, published: ModelPublished) -> Iterator[str]:
        if published.version != task.version + 1:
            yield f"version {published.version} after version {task.version}"
        if task.created.policy.privacy is not None and published.round is not None:
            yield from self._check_charge(task, published.round)
        if self._is_asked(task):
            yield from self._recomputing.check_model(task, published)

    def _check_charge(self, task: Task, round_id: int) -> Iterator[str]:
        privacy = task.created.policy.privacy
        charge = self._charges.get((task.created.task, round_id))
        pending = next((pending for pending in task.pending if pending.id == round_id), None)
        proposed = pending.proposed if pending else None
        assert privacy is not None
        if charge is None or pending is None or proposed is None:
            yield f"round {round_id} was published without a charge in the ledger"
            return
        if not pending.charged:
            yield f"round {round_id} was published before its charge was noticed"
        self.findings.charges += 1
        if (
            charge.rho_total < rho(proposed.participations_max, privacy.noise_multiplier)
            or charge.mechanism != proposed.mechanism
        ):
            yield f"round {round_id}: charged rho {charge.rho_total:g} does not cover its participations"

    def _decisions(self, topic: str) -> Iterator[tuple[Record, Decision, JournalPosition]]:
        return read_decisions(self._log, self._place(topic), accepts_resume=self._accepts)

    def _created(self) -> dict[str, TaskCreated]:
        """What the operator wrote."""
        return collect_creations(record.value for record in scan(self._log, self._place(TASKS.name)))


def _task_of(event: JournalEvent) -> str:
    return str(getattr(getattr(event, "fact", event), "task", ""))
