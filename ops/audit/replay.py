"""Full replay: fold a partition's journals from their first record, and recompute what they claim from the bodies.

Nothing recorded is compared with itself: weights come from the policy, clip scales and sums from the bodies, models
from sums, noise and the version before, charges from the admissions. `fedlog replay` runs it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import inf

from actors.deciders.aggregator_state import Rounds, Task, evolve
from actors.deciders.decider import digest
from actors.deciders.populations.settings import may_share
from actors.effects.aggregator.summation import NO_KEYS
from actors.effects.sealing.epoch_keys import EpochKeys
from actors.runtime.role import Role
from actors.wiring import PRIVACY_ROLE, ROLES
from ops.audit import announcements, event_checks
from ops.audit.ancestry import check_ancestry
from ops.audit.findings import Finding, Findings
from ops.audit.outliers import drift, quarantine
from ops.audit.recomputing import FindNoise, Recomputer
from ops.audit.verification import Verification, make_trust
from schemas.certificates import Trust
from schemas.creations import Written, collect_creations, find_faults, find_misplacement, parse_task_event
from schemas.events import (
    DeviceQuarantined,
    JournalEvent,
    MembersCompared,
    ModelPublished,
    Noticed,
    PopulationBudgetSet,
    QuarantineLifted,
    RoundCharged,
    RoundProposed,
    StateDigest,
    SumStored,
    TaskCreated,
    UpdateAdmitted,
)
from schemas.identifiers import RoundId
from schemas.journal import Decision, JournalPosition
from schemas.topics import LEDGER, ROUNDS, TASKS
from streams.journals import JournalBroken, read_decisions
from streams.log import EventLog, LogError, LogRefused, Record, TopicPartition, scan


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """What an auditor knows from elsewhere: the operator's public key (None: nothing is proven), the secret keys.

    `noise` finds the key that a mechanism names, by deployment and id; `epochs` has those of sealed tasks.
    """

    operator: bytes | None = None
    noise: FindNoise | None = None
    epochs: EpochKeys = NO_KEYS


@dataclass(frozen=True, slots=True)
class Target:
    """The fold ends with this version of the task, or of every task of the partition."""

    version: int
    task: str | None = None


class FoldFailed(Exception):
    """An event cannot be folded onto the state before it; `finding` names its record."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(str(finding))
        self.finding = finding


class Audit:
    """Replays one partition. `full` recomputes sums and models; with privacy that needs the noise key.

    With a target only the aggregator's journal is folded, which makes the versions; the chains of all are followed.
    """

    def __init__(
        self, log: EventLog, partition: int, *, anchor: Anchor, full: bool = False, to: Target | None = None
    ) -> None:
        self.findings = Findings()
        self.state = Rounds()
        self._log, self._partition, self._full, self._to = log, partition, full, to
        self._recomputer = Recomputer(
            log, partition, find_key=anchor.noise, epoch_keys=anchor.epochs, findings=self.findings
        )
        self._announcements = announcements.Expected(partition)
        self._seqs: dict[str, int] = {}  # how far each journal was read whose actor announces something
        self._charges: dict[tuple[str, RoundId], RoundCharged] = {}
        self._trust = make_trust(log, anchor.operator)
        self._creations = self._read_creations()

    def run(self) -> Findings:
        """All that `fedlog verify` checks, then each fold; one that breaks off is a difference too."""
        check = Verification(self._log, self._partition, operator=self._operator)
        for finding in check.check():
            self.findings.add_difference(finding)
        others = [role for role in ROLES.values() if role.journal not in (LEDGER.name, ROUNDS.name)]
        for role in others if self._to is None else ():
            self._try_fold(partial(self._fold, role))
        # Versions are compared with charges, so that a ledger that breaks off says nothing about them.
        if self._try_fold(self._fold_ledger):
            self._try_fold(self._fold_rounds)
        self.findings.reached = [
            f"{name}/{task.version}"
            for name, task in self.state.tasks.items()
            if self._to is None or self._to.task in (None, name)
        ]
        return self.findings

    @property
    def _operator(self) -> bytes | None:
        return None if self._trust is None else self._trust.operator

    def _try_fold(self, fold: Callable[[], None]) -> bool:
        """Run a fold; whether it came to its end."""
        try:
            fold()
        except JournalBroken as error:
            self.findings.add_difference(Finding.from_journal(error))
            return False
        except FoldFailed as error:
            self.findings.add_difference(error.finding)
            return False
        return True

    def _fold_ledger(self) -> None:
        events = (event for _, decision, _ in self._read_decisions(LEDGER.name) for event in decision.events)
        # All charges first: the aggregator publishes a round after its charge, in another journal.
        self._charges = {(event.task, event.round): event for event in events if isinstance(event, RoundCharged)}
        if self._to is None:
            self._fold(PRIVACY_ROLE)

    def _fold_rounds(self) -> None:
        heard = -1  # of the operator's words
        for record, decision, at in self._read_decisions(ROUNDS.name):
            if self._is_reached():
                self.findings.stopped = 1
                return
            self.findings.decisions, self._seqs[ROUNDS.name] = self.findings.decisions + 1, at.seq
            heard = max(heard, decision.offset if decision.topic == TASKS.name else -1)
            for event in decision.events:
                self.findings.events += 1
                with self._name_record(record, event):
                    # Each event is checked against the state before it, so the check comes before the fold.
                    for task, what in self._check(event, decision, at=at):
                        self.findings.add_difference(Finding(record.at, record.offset, what, task))
                    evolve(self.state, event, decision.time_ms)
                self._announcements.note(event, at, topic=ROUNDS.name, time_ms=decision.time_ms)
        for what in event_checks.find_ignored(
            self.state, _list_signed(self._log, self._partition, trust=self._trust, before=heard)
        ):
            self.findings.add_difference(Finding(TopicPartition(TASKS.name, self._partition), heard, what))
        # Only a fold to the end knows every version that must be announced.
        said = partial(announcements.compare, expected=self._announcements.by_id, seqs=self._seqs)
        for finding in said(self._log, self._partition) if self._full and self._to is None else ():
            self.findings.add_difference(finding)

    def _fold(self, role: Role) -> None:
        """Fold another actor's journal; each digest that it recorded on the way must be that of the state here."""
        decider = role.load_decider()
        state = decider.initial()
        for record, decision, at in self._read_decisions(role.journal):
            self.findings.decisions += 1
            self._seqs[role.journal] = at.seq
            for event in decision.events:
                self.findings.events += 1
                self._announcements.note(event, at, topic=role.journal, time_ms=decision.time_ms)
                with self._name_record(record, event):
                    if isinstance(event, StateDigest) and not decider.recognises(state, event.sha256):
                        what = "StateDigest: the fold gives another"
                        self.findings.add_difference(Finding(record.at, record.offset, what))
                    decider.evolve(state, event, decision.time_ms)

    @contextmanager
    def _name_record(self, record: Record, event: JournalEvent) -> Iterator[None]:
        """Whatever a damaged event makes our code raise is a finding at its record; a log that fails is not."""
        try:
            yield
        except LogError:
            raise
        except Exception as error:
            what = (
                f"{type(event).__name__} cannot be folded onto what stands before it ({type(error).__name__}: {error})"
            )
            raise FoldFailed(Finding(record.at, record.offset, what, _find_task_of(event))) from error

    def _is_reached(self) -> bool:
        """Whether every task that counts stands at the target; those to come are known from what the operator wrote."""
        if self._to is None:
            return False
        # A task that was created and has no version yet must hold the fold back.
        names = self._creations if self._to.task is None else (self._to.task,)
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
                faults = self._check_creation(created)
            case Noticed(fact=RoundCharged() as charged):
                faults = [] if self._charges.get((charged.task, charged.round)) == charged else ["not in the ledger"]
            case Noticed(fact=PopulationBudgetSet() | QuarantineLifted() as word):
                signed = _list_signed(self._log, self._partition, trust=self._trust)
                faults = event_checks.check_word(self.state, word, signed=signed)
            case UpdateAdmitted():
                faults = event_checks.check_admission(self.state, event)
            case StateDigest() if event.sha256 != digest(self.state):
                faults = ["the fold gives another"]
            case RoundProposed():
                faults = event_checks.check_proposal(self.state, event, time_ms=decision.time_ms)
            case SumStored() | MembersCompared() | DeviceQuarantined():
                task = self.state.tasks[event.task]
                asked = self._recomputer if self._is_asked(task) else None
                faults = _check_release(task, event, decision=decision, recomputer=asked)
            case ModelPublished():
                faults = self._check_version(self.state.tasks[event.task], event, decision=decision)
        for fault in faults:
            yield _find_task_of(event), f"{type(event).__name__}: {fault}"

    def _check_creation(self, created: TaskCreated) -> Iterator[str]:
        yield from find_misplacement(created, self._partition, partitions=self._log.partitions)
        yield from find_faults(created)
        if created.task not in self._creations:
            # The operator may have written it since this replay began.
            self._creations = self._read_creations()
        if self._creations.get(created.task) != created:
            yield f"is not what the operator wrote in {TASKS.name}"
        if not may_share(self.state.budgets, created):
            yield "begins beside its population's budget, and what it costs is not known"
        # Parents may live in other partitions, whose journals are read for it.
        if self._full:
            yield from self._check_ancestry(created)

    def _check_ancestry(self, created: TaskCreated) -> Iterator[str]:
        try:
            yield from check_ancestry(self._log, created, operator=self._operator, trust=self._trust)
        except LogRefused as error:
            # An export may hold the child's partition alone.
            self.findings.unchecked.append(f"{created.task}: what its parents have spent ({error})")

    def _check_version(self, task: Task, published: ModelPublished, *, decision: Decision) -> Iterator[str]:
        yield from event_checks.check_members(task, published)
        yield from quarantine.check_published(task, published, decision=decision.events)
        yield from drift.check_told(task, published, decision=decision.events)
        if task.created.policy.privacy is not None and published.round is not None:
            charge = self._charges.get((task.created.task, published.round))
            self.findings.charges += charge is not None
            yield from event_checks.check_charge(task, published.round, charge=charge)
        # Recomputing a version reads every body of its round, so it is done only as far as asked.
        if self._is_asked(task):
            yield from self._recomputer.check_model(task, published)
            yield from self._recomputer.check_drift(task, published, decision=decision.events)

    def _read_decisions(self, topic: str) -> Iterator[tuple[Record, Decision, JournalPosition]]:
        at = TopicPartition(topic, self._partition)
        return read_decisions(self._log, at, trust=self._trust, reads_ahead=True)

    def _read_creations(self) -> dict[str, TaskCreated]:
        """What the operator wrote."""
        at = TopicPartition(TASKS.name, self._partition)
        operator, partitions = self._operator, self._log.partitions
        deployment = None if self._trust is None else self._trust.deployment
        return collect_creations(scan(self._log, at), operator, partitions=partitions, deployment=deployment)


def _check_release(
    task: Task,
    event: SumStored | MembersCompared | DeviceQuarantined,
    *,
    decision: Decision,
    recomputer: Recomputer | None,
) -> Iterator[str]:
    """What is wrong with what a release rests on; `recomputer` is None where bodies are not looked at."""
    if not isinstance(event, SumStored):
        yield from quarantine.check_quarantine(task, event, decision=decision.events)
    if recomputer is not None and not isinstance(event, DeviceQuarantined):
        yield from recomputer.check(task, event)


def _list_signed(log: EventLog, partition: int, *, trust: Trust | None, before: float = inf) -> list[Written]:
    """What the operator has signed for this deployment, up to an offset of `tasks`."""
    operator, deployment = (None, None) if trust is None else (trust.operator, trust.deployment)
    records = (record for record in scan(log, TopicPartition(TASKS.name, partition)) if record.offset < before)
    events = (parse_task_event(record, operator) for record in records)
    return [event for event in events if event is not None and deployment in (None, event.deployment)]


def _find_task_of(event: JournalEvent) -> str:
    return str(getattr(getattr(event, "fact", event), "task", ""))
