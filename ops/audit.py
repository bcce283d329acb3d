"""Full replay: fold a partition's journals from their first record, and recompute what they claim from the bodies.

Nothing recorded is compared with itself: weights come from the policy, clip scales and sums from the bodies, models
from sums, noise and the version before, charges from the admissions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from actors import releases
from actors.deciders import sums
from actors.deciders.accounting import rho
from actors.deciders.aggregator import mechanism_of
from actors.deciders.decider import Decider, digest
from actors.deciders.optimizers import MOMENTS
from actors.deciders.privacy_budget import PRIVACY_BUDGET
from actors.deciders.rounds import MOMENTS_KEPT, Rounds, Task, evolve
from actors.deciders.selector import SELECTOR
from actors.keys import OperatorKey
from ops import announcements
from schemas.envelope import (
    Batch,
    Chain,
    ChainBroken,
    ChainResumed,
    Decision,
    JournalPosition,
    MalformedError,
    decode,
    encode,
)
from schemas.events import (
    Event,
    ModelPublished,
    Noticed,
    RoundCharged,
    RoundProposed,
    StateDigest,
    SumStored,
    TaskCreated,
    UpdateAdmitted,
)
from schemas.identifiers import BodyRef
from schemas.policy import PolicyError, checked
from schemas.published import Head, announced, cloud_event_id
from schemas.tensors import BodyError, Floats, Grid, read_update, unpack
from schemas.topics import LEDGER, ROUNDS, SELECTIONS, TASKS
from streams.log import EventLog, Record, TopicPartition, scan

Accepts = Callable[[ChainResumed], bool]


@dataclass(frozen=True, slots=True)
class Difference:
    """Where the log does not say what its own bodies and policy give."""

    task: str
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: task {self.task}: {self.what}"


@dataclass(slots=True)
class Findings:
    """What a replay saw. `unchecked` names versions whose bodies are no longer in the log."""

    events: int = 0
    decisions: int = 0
    sums: int = 0
    models: int = 0
    charges: int = 0
    unchecked: list[str] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)

    def __add__(self, other: Findings) -> Findings:
        return Findings(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(Findings)})

    @property
    def verdict(self) -> str:
        """The word identical, or the first difference."""
        return "identical" if not self.differences else str(self.differences[0])


def _differ(one: Floats | None, other: Floats | None) -> bool:
    if one is None or other is None:
        return one is not other
    return one.tobytes() != other.tobytes()


def decisions_of(
    log: EventLog, at: TopicPartition, *, accepts_resume: Accepts = lambda _: False
) -> Iterator[tuple[Record, Decision, JournalPosition]]:
    """Every decision of a journal partition, its record, and where the chain stands after that.

    Raises ChainBroken, which names the offset.
    """
    chain = Chain(accepts_resume=accepts_resume)
    for record in scan(log, at):
        try:
            batch: Batch | None = chain.follow(record.offset, record.value or b"")
        except ChainBroken as error:
            raise ChainBroken(f"{at.topic}[{at.partition}] {error}") from error
        for decision in batch.decisions if batch else ():
            yield record, decision, chain.at


class Audit:
    """Replays one partition. `full` recomputes sums and models; with privacy that needs the operator's key."""

    def __init__(self, log: EventLog, partition: int, *, key: OperatorKey | None, full: bool, to: int | None) -> None:
        self.findings = Findings()
        self.state = Rounds()
        self._log, self._partition = log, partition
        self._key, self._full, self._to = key, full, to
        self._bodies = releases.Bodies(log, partition)
        self._held: dict[str, tuple[Floats, Floats | None]] = {}  # newest model and moments, as recomputed
        self._released: dict[str, releases.Release] = {}  # of the round whose version comes next
        self._published: dict[str, dict[str, Any]] = {}  # what `published` must hold, by id
        self._seq = -1
        self._charges: dict[tuple[str, int], RoundCharged] = {}
        self._operator = self._created()
        self._newest = announcements.newest(log, partition)

    def run(self) -> Findings:
        """Everything, in the order of the aggregator's journal; a broken chain ends it and is a difference too."""
        try:
            self._charges = self._charged()
            self._replay()
        except ChainBroken as error:
            self.findings.differences.append(Difference("any", str(error), "the record is not what its writer wrote"))
        return self.findings

    def _replay(self) -> None:
        self._fold(SELECTIONS.name, SELECTOR)
        self._fold(LEDGER.name, PRIVACY_BUDGET)
        for record, decision, at in self._decisions(ROUNDS.name):
            self.findings.decisions += 1
            self._seq = at.seq
            for event in decision.events:
                self.findings.events += 1
                where = f"{ROUNDS.name}[{self._partition}] offset {record.offset}"
                for task, what in self._check(event, decision, at=at):
                    self.findings.differences.append(Difference(task, where, what))
                evolve(self.state, event, decision.time_ms)
        if self._full and self._to is None:
            faults = announcements.faults(self._log, self._partition, expected=self._published, seq=self._seq)
            self.findings.differences += [Difference(*fault) for fault in faults]

    def _fold(self, topic: str, decider: Decider[Any]) -> None:
        """Fold another actor's journal; each digest that it recorded on the way must be that of the state here."""
        state = decider.initial()
        for record, decision, _ in self._decisions(topic):
            self.findings.decisions += 1
            for event in decision.events:
                self.findings.events += 1
                if isinstance(event, StateDigest) and not decider.recognises(state, event.sha256):
                    where = f"{topic}[{self._partition}] offset {record.offset}"
                    self.findings.differences.append(Difference("any", where, "StateDigest: the fold gives another"))
                decider.evolve(state, event, decision.time_ms)

    def _check(self, event: Event, decision: Decision, *, at: JournalPosition) -> Iterator[tuple[str, str]]:
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
            case SumStored():
                faults = self._check_sum(self.state.tasks[event.task], event)
            case ModelPublished():
                head = Head(topic=ROUNDS.name, partition=self._partition, seq=at.seq, head=at.head.hex())
                self._published[cloud_event_id(event)] = announced(event, decision.time_ms, head=head)
                faults = self._check_model(self.state.tasks[event.task], event)
        for fault in faults:
            task = getattr(getattr(event, "fact", event), "task", "any")
            yield task, f"{type(event).__name__}: {fault}"

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

    def _check_sum(self, task: Task, stored: SumStored) -> Iterator[str]:
        if not self._full or self._is_past(task.version + 1):
            return
        awaited = next((pending for pending in task.pending if pending.id == stored.round), None)
        if awaited is None or awaited.proposed is None:
            yield f"round {stored.round}: was never proposed"
            return
        held = self._held.get(task.created.task)
        faults: list[str] = []
        try:
            total = self._total(task, awaited.members.values(), faults=faults)
            yield from faults
            if sums.sum_digest(total) != stored.sum_sha256:
                yield f"round {stored.round}: the bodies give another sum"
            self.findings.sums += 1
            if held is None:
                return
            if self._key is None and awaited.proposed.mechanism is not None:
                self.findings.unchecked.append(f"{task.created.task}/{task.version + 1} (needs the operator's key)")
                return
            key = self._key or OperatorKey(b"")  # without privacy no key is asked for
            release = releases.release(task.created, awaited.proposed, total=total, start=held, key=key)
            self._released[task.created.task] = release
        except releases.BodyLost as error:
            self.findings.unchecked.append(f"{task.created.task}/{task.version + 1} ({error})")
        except releases.NoiseKeyMissing as error:
            yield f"{error}; this is not the operator's key of that time"

    def _total(self, task: Task, members: Iterable[UpdateAdmitted], *, faults: list[str]) -> Grid:
        running = sums.RunningSum(task.created.parameters)
        for member in members:
            where = f"update {member.update}"
            try:
                quanta = read_update(
                    self._bodies.fetch(member.body), task.created.policy, parameters=task.created.parameters
                )
            except (BodyError, releases.BodyLost) as error:
                if member.zeroed is None:
                    if isinstance(error, releases.BodyLost) and error.deleted:
                        raise
                    faults.append(f"{where}: {error}")
                continue
            if member.zeroed is not None:
                if member.zeroed != "defect":
                    faults.append(f"{where}: zeroed as {member.zeroed}, and nothing is wrong with it")
                continue
            scale = sums.clip_scale(quanta, task.created.policy.clipping.steps)
            if scale != member.clip_scale:
                faults.append(f"{where}: clip scale {member.clip_scale}, the body gives {scale}")
            running.add(quanta, weight=member.weight, scale=scale)
        return running.total()

    def _check_model(self, task: Task, published: ModelPublished) -> Iterator[str]:
        if published.version != task.version + 1:
            yield f"version {published.version} after version {task.version}"
        if task.created.policy.privacy is not None and published.round is not None:
            yield from self._check_charge(task, published.round)
        if not self._full or self._is_past(published.version):
            return
        released = self._released.pop(published.task, None)
        self.findings.models += released is not None
        held: list[Floats | None] = []
        for name, ref in (("model", published.model), ("moments", published.moments)):
            faults: list[str] = []
            stored = self._stored(task, ref, name=name, faults=faults) if ref else None
            expected = getattr(released, name) if released else stored
            if released and not faults and _differ(expected, stored) and not (ref and stored is None):
                faults.append(f"the round gives another {name}")
            yield from (f"version {published.version}: {fault}" for fault in faults)
            held.append(expected)
        self._held.pop(published.task, None)
        if held[0] is not None:
            self._held[published.task] = (held[0], held[1])

    def _stored(self, task: Task, ref: BodyRef, *, name: str, faults: list[str]) -> Floats | None:
        """A published vector; None when it cannot be read, which is a fault for as long as the policy keeps it."""
        count = task.created.parameters * (1 if name == "model" else MOMENTS[task.created.policy.optimizer.rule])
        version = task.version + 1
        try:
            return unpack(self._bodies.fetch(ref), "float32", count=count)
        except (BodyError, releases.BodyLost) as error:
            if isinstance(error, BodyError) or error.altered or self._is_kept(task, version, name=name):
                faults.append(f"its {name} cannot be read: {error}")
            elif name == "model":
                self.findings.unchecked.append(f"{task.created.task}/{version} ({error})")
            return None

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

    def _is_kept(self, task: Task, version: int, *, name: str) -> bool:
        """Whether the policy still keeps this body, as far as `published` tells how many versions came after it."""
        retention, newest = task.created.policy.retention, self._newest.get(task.created.task, 0)
        if name == "moments":
            return version > newest - MOMENTS_KEPT
        is_milestone = retention.milestone_every and version % retention.milestone_every == 0
        return bool(is_milestone) or version > newest - retention.models_kept

    def _is_past(self, version: int) -> bool:
        return self._to is not None and version > self._to

    def _decisions(self, topic: str) -> Iterator[tuple[Record, Decision, JournalPosition]]:
        accepts = self._key.accepts if self._key else lambda _: False
        return decisions_of(self._log, TopicPartition(topic, self._partition), accepts_resume=accepts)

    def _charged(self) -> dict[tuple[str, int], RoundCharged]:
        events = (event for _, decision, _ in self._decisions(LEDGER.name) for event in decision.events)
        return {(event.task, event.round): event for event in events if isinstance(event, RoundCharged)}

    def _created(self) -> dict[str, TaskCreated]:
        """What the operator wrote; the first record of a name counts."""
        found: dict[str, TaskCreated] = {}
        for record in scan(self._log, TopicPartition(TASKS.name, self._partition)):
            try:
                created = decode(record.value or b"", TaskCreated)
            except MalformedError:
                continue
            found.setdefault(created.task, created)
        return found
