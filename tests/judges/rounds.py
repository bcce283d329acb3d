"""The part of the law check that walks rounds: buffers, proposals, charges, versions, and the sums from the bodies."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import floor, isqrt
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.exceptions import InvalidTag
from msgspec import UNSET

from schemas.canonical import decode, encode
from schemas.events import (
    MembersCompared,
    ModelPublished,
    Noticed,
    RoundAbandoned,
    RoundCharged,
    RoundOpened,
    RoundProposed,
    SumStored,
    TaskCreated,
    TaskHalted,
    UpdateAdmitted,
    UpdateSubmitted,
)
from schemas.identifiers import BodyRef
from schemas.signing import parse_signed
from schemas.tensors import BodyError, read_update
from schemas.topics import BODIES, ROUNDS, SHARDS, UPDATES
from streams.log import EventLog, TopicPartition, scan
from tests.judges.identity.quarantine import comparison_faults
from tests.judges.logbook import Logbook
from tests.judges.masking.sums import add_up, list_answers
from tests.judges.sealing.opening import find_secret, open_member
from tests.judges.slow_sums import combined

Faults = Iterator[str]
Totals = dict[tuple[str, int | None], Any]
Chunks = dict[TopicPartition, dict[tuple[int, int], bytes]]


@dataclass(slots=True)
class _Round:
    """The admissions of one round, and its proposal."""

    members: list[UpdateAdmitted] = field(default_factory=list)
    proposed: RoundProposed | None = None
    charged: bool = False
    abandoned: bool = False
    spent: int = 0  # participations of the busiest device, up to the proposal
    opened_ms: int = 0


@dataclass(slots=True)
class _Walk:
    """One task's story so far. Each method takes one event and tells what is wrong with it."""

    created: TaskCreated
    charges: dict[int, RoundCharged]
    time_ms: int = 0
    version: int = -1
    open: int | None = None
    newest: int = -1
    rounds: dict[int, _Round] = field(default_factory=dict)
    pending: list[int] = field(default_factory=list)
    taken: Counter[str] = field(default_factory=Counter)
    salts: set[bytes] = field(default_factory=set)

    def take(self, event: Any) -> Faults:
        """Follow one event of the aggregator's journal."""
        match event:
            case RoundOpened():
                return self._opened(event)
            case UpdateAdmitted():
                return self._admitted(event)
            case RoundProposed():
                return self._proposed(event)
            case SumStored() if event.round not in self.pending:
                return iter([f"round {event.round}: a sum, and it is not proposed"])
            case ModelPublished():
                return self._published(event)
            case RoundAbandoned():
                return self._abandoned(event)
            case TaskHalted():
                return self._halted()
        return iter(())

    @property
    def cap(self) -> float:
        """m = floor(2 z^2 (rho_max - rho before)), in whole fractions of the policy's, or what it asks for itself."""
        privacy, most = self.created.policy.privacy, self.created.policy.selection.participations_max or float("inf")
        if privacy is None:
            return most
        return min(most, floor(2 * _exact(privacy.noise_multiplier) ** 2 * (_exact(privacy.rho_max) - self._rho(0))))

    def _rho(self, participations: int) -> Fraction:
        """All that the tasks before have spent, and so many participations in this one."""
        privacy = self.created.policy.privacy
        assert privacy is not None
        spent = [(each.participations, each.noise_multiplier) for each in self.created.spent_before]
        return sum(
            (Fraction(p) / (2 * _exact(z) ** 2) for p, z in [*spent, (participations, privacy.noise_multiplier)]),
            Fraction(0),
        )

    def _opened(self, event: RoundOpened) -> Faults:
        if self.open is not None:
            yield f"round {event.round} opens, and round {self.open} is open"
        if event.round != self.newest + 1:
            yield f"round {event.round} opens after round {self.newest}"
        self.open = self.newest = event.round
        self.rounds[event.round] = _Round(opened_ms=self.time_ms)

    def _admitted(self, event: UpdateAdmitted) -> Faults:
        if event.round != self.open:
            yield f"update {event.update} is admitted to round {event.round}; open is {self.open}"
        members = self.rounds.setdefault(event.round, _Round()).members
        unit = event.subject or event.device
        if unit in {member.subject or member.device for member in members}:
            yield f"{unit} is twice in round {event.round}"
        staleness = self.version + len(self.pending) - event.version
        if event.staleness != staleness:
            yield f"update {event.update}: staleness {event.staleness}, counted {staleness}"
        base = self.created.weights[event.staleness] if 0 <= event.staleness < len(self.created.weights) else 0
        most = max(1, self.created.policy.aggregation.samples_max)
        if base == 0 or event.weight % base or not 1 <= event.weight // base <= most:
            yield f"update {event.update}: weight {event.weight}, and staleness {event.staleness} weighs {base}"
        if event.zeroed is not None and (self.created.policy.privacy is None or event.clip_scale):
            yield f"update {event.update}: zeroed without privacy, or with a clip scale"
        if event.salt in self.salts:
            yield f"update {event.update}: its salt is that of another member"
        self.salts.add(event.salt)
        members.append(event)
        self.taken[unit] += 1
        if self.taken[unit] > self.cap:
            yield f"{unit} takes part {self.taken[unit]} times; the cap is {self.cap}"

    def _proposed(self, event: RoundProposed) -> Faults:
        current = self.rounds.setdefault(event.round, _Round())
        rules, members = self.created.policy.aggregation, len(current.members)
        size, open_ms = rules.updates_per_round, self.time_ms - current.opened_ms
        is_over = 0 < 1000 * rules.round_s <= open_ms and rules.updates_min <= members < size
        if event.round != self.open or event.members != members or not (members == size or is_over):
            yield f"round {event.round} is proposed with {members} members after {open_ms} ms, K = {size}"
        if event.members_root != _root(current.members):
            yield f"round {event.round}: members_root does not commit to its members"
        if event.weight_sum != sum(member.weight for member in current.members):
            yield f"round {event.round}: weight_sum is another"
        current.spent = max(self.taken.values(), default=0)
        if event.participations_max < current.spent:
            yield f"round {event.round}: participations_max {event.participations_max}, counted {current.spent}"
        if (event.mechanism is None) != (self.created.policy.privacy is None):
            yield f"round {event.round}: its mechanism is not the policy's"
        current.proposed, self.open = event, None
        self.pending.append(event.round)

    def charge(self, event: RoundCharged) -> Faults:
        """The aggregator has noticed a charge, if only of a round that it has given up since it proposed it."""
        current = self.rounds.setdefault(event.round, _Round())
        if event.round not in self.pending and not (current.proposed and current.abandoned):
            yield f"round {event.round} is charged, and is not proposed"
        current.charged = True

    def _published(self, event: ModelPublished) -> Faults:
        if event.version != self.version + 1:
            yield f"version {event.version} after version {self.version}"
        self.version = event.version
        if event.round is None:
            if event.version != 0 or event.model != self.created.model or event.members_root is not None:
                yield f"version {event.version} comes from no round and is not the operator's model"
            return
        if self.pending[:1] != [event.round]:
            yield f"version {event.version} is of round {event.round}; proposed are {self.pending}"
        joined = self.rounds.setdefault(event.round, _Round()).members
        if (event.members_root, event.members) != (_root(joined), len(joined)):
            yield f"version {event.version}: members_root is not that of its round"
        self.pending = [pending for pending in self.pending if pending != event.round]
        if self.created.policy.privacy is not None:
            yield from self._charge_faults(event.round)

    def _charge_faults(self, round_id: int) -> Faults:
        privacy, published, charge = self.created.policy.privacy, self.rounds[round_id], self.charges.get(round_id)
        assert privacy is not None
        if not published.charged or charge is None or published.proposed is None:
            yield f"round {round_id} is published, and was not charged before"
            return
        spent = self._rho(published.spent)
        if charge.rho_total < float(spent):
            yield f"round {round_id}: rho_total {charge.rho_total}, the admissions cost {float(spent)}"
        if charge.rho_total > privacy.rho_max or charge.mechanism != published.proposed.mechanism:
            yield f"round {round_id}: charged above rho_max, or for another mechanism"

    def _abandoned(self, event: RoundAbandoned) -> Faults:
        current = self.rounds.get(event.round)
        if current is None or (event.round != self.open and event.round not in self.pending):
            yield f"round {event.round} is abandoned, and was neither open nor pending"
            return
        if event.members_root != _root(current.members) or event.members != len(current.members):
            yield f"round {event.round} is abandoned with other members than it had"
        current.abandoned = True
        self.pending = [pending for pending in self.pending if pending != event.round]
        self.open = None if event.round == self.open else self.open

    def _halted(self) -> Faults:
        if self.open is not None and self.rounds[self.open].members:
            yield f"halted, and the members of round {self.open} are in no round that ended"
        self.open = None


def round_faults(book: Logbook, *, settled: bool) -> Faults:
    """Walk the aggregator's journal; with `settled` no round may still wait for its version."""
    walks: dict[str, _Walk] = {}
    told = ((decision.time_ms, event) for decision in book.rounds.decisions for event in decision.events)
    for time_ms, event in told:
        fact = event.fact if isinstance(event, Noticed) else event
        task = getattr(fact, "task", None)
        if task is None:
            continue
        faults: Faults = iter(())
        if isinstance(fact, TaskCreated):
            charges = {e.round: e for e in book.ledger.events(RoundCharged) if e.task == task}
            walks[task] = _Walk(fact, charges)
        elif task in walks:
            walks[task].time_ms = time_ms
            faults = walks[task].charge(fact) if isinstance(fact, RoundCharged) else walks[task].take(event)
        elif isinstance(fact, UpdateAdmitted | ModelPublished | RoundOpened):
            faults = iter(["an event before its creation"])
        yield from (f"{ROUNDS.name}: task {task}: {fault}" for fault in faults)
    for task, walk in walks.items():
        if settled and walk.pending:
            yield f"{ROUNDS.name}: task {task}: rounds {walk.pending} were proposed and got no version"


def sum_faults(book: Logbook, sums: Totals) -> Faults:
    """Law 6: every sum that the journal names is the one that `totals` finds in the bodies, as far as they live."""
    for stored in book.rounds.events(SumStored):
        total = sums.get((stored.task, stored.round))
        if total is not None and hashlib.sha256(total.astype("<i8").tobytes()).digest() != stored.sum_sha256:
            yield f"{ROUNDS.name}: task {stored.task}: round {stored.round}: the bodies give another sum"


def totals(log: EventLog, book: Logbook, *, epoch_keys: Path | None = None) -> tuple[Totals, list[str]]:
    """The exact sum of each round that has one in the journal, and what is wrong.

    None where its bodies were let go, or the key that they are sealed under does not lie in `epoch_keys`.
    """
    created = {e.fact.task: e.fact for e in book.rounds.events(Noticed) if isinstance(e.fact, TaskCreated)}
    places = [TopicPartition(BODIES.name, book.partition)]
    if any(task.policy.shard_count > 1 for task in created.values()):
        places += [TopicPartition(SHARDS.name, partition) for partition in range(log.partitions)]
    chunks = {at: {(r.offset, 0): r.value or b"" for r in scan(log, at)} for at in places}
    inline = {(r.offset, r.message): r.value or b"" for r in book.inputs[UPDATES.name]}
    chunks[TopicPartition(UPDATES.name, book.partition)] = inline
    beginnings = {at: log.bounds(at).beginning for at in places}
    members: dict[tuple[str, int], list[UpdateAdmitted]] = {}
    for event in book.rounds.events(UpdateAdmitted):
        members.setdefault((event.task, event.round), []).append(event)
    compared = {(event.task, event.round): event for event in book.rounds.events(MembersCompared)}
    found: Totals = {}
    faults: list[str] = []
    answers = list_answers(book)
    for stored in book.rounds.events(SumStored):
        task, round_id = stored.task, stored.round
        joined, masks = members.get((task, round_id), []), [each.body for each in answers.get((task, round_id), [])]
        bodies = [*(member.body for member in joined if member.zeroed is None), *masks]
        opening = _Opening(created[task], epoch_keys)
        is_gone = any(body.offsets[0] < beginnings.get(_place(body), 0) for body in bodies)
        if is_gone or not all(map(opening.has_key, joined)):
            found[task, round_id] = None
            continue
        try:
            found[task, round_id] = _add_up(opening, joined, chunks=chunks, masks=masks)
            if told := compared.get((task, round_id)):
                faults += _compare(opening, joined, chunks=chunks, told=told)
        except (BodyError, KeyError, InvalidTag) as error:
            faults.append(f"{ROUNDS.name}: task {task}: round {round_id}: a member's body cannot be read: {error!r}")
    return found, faults


def _add_up(opening: _Opening, joined: Sequence[UpdateAdmitted], *, chunks: Chunks, masks: Sequence[BodyRef]) -> Any:
    created = opening.created
    if opening.is_masked:
        given = [(_fetch(chunks, each.body), each.weight) for each in joined if each.zeroed is None]
        return add_up(given, [_fetch(chunks, body) for body in masks], parameters=created.parameters)
    return _combined(created, [(each, opening.open(each, _body(chunks, each))) for each in joined])


def _compare(opening: _Opening, joined: Sequence[UpdateAdmitted], *, chunks: Chunks, told: MembersCompared) -> Faults:
    bodies = {each.update: opening.open(each, _body(chunks, each)) for each in joined}
    vectors = {update: _clipped(opening.created, body) for update, body in bodies.items()}
    return comparison_faults(opening.created, told, vectors)


@dataclass(frozen=True, slots=True)
class _Opening:
    """What is in the bodies of one task, sealed or not."""

    created: TaskCreated
    folder: Path | None

    @property
    def is_masked(self) -> bool:
        return self.created.policy.tier == "masked"

    def has_key(self, member: UpdateAdmitted) -> bool:
        return (
            self.is_masked or member.epoch is UNSET or find_secret(self.folder, self.created, member.epoch) is not None
        )

    def open(self, member: UpdateAdmitted, body: bytes) -> bytes:
        if member.epoch is UNSET or member.zeroed is not None:
            return body
        secret = find_secret(self.folder, self.created, member.epoch)
        assert secret is not None
        return open_member(self.created, member, body, secret=secret)


def _place(body: BodyRef) -> TopicPartition:
    return TopicPartition(body.topic, body.partition)


def _body(chunks: Chunks, member: UpdateAdmitted) -> bytes:
    return b"" if member.zeroed is not None else _fetch(chunks, member.body)


def _fetch(chunks: Chunks, body: BodyRef) -> bytes:
    data = b"".join(chunks[_place(body)][offset, body.message] for offset in body.offsets)
    if body.topic == UPDATES.name:
        data = decode(parse_signed(data).payload, UpdateSubmitted).inline or b""
    if hashlib.sha256(data).digest() != body.sha256:
        raise KeyError(body.offsets)
    return data


def _combined(created: TaskCreated, joined: list[tuple[UpdateAdmitted, bytes]]) -> Any:
    """The sum of the members, or what their rule makes of them."""
    members = sorted((each for each in joined if each[0].zeroed is None), key=lambda each: each[0].update)
    clipped = [_clipped(created, body) for _, body in members]
    weights = [member.weight for member, _ in members]
    if created.policy.aggregation.rule != "mean" and clipped:
        return np.array(combined(created.policy, [vector.tolist() for vector in clipped], weights), np.int64)
    total = np.zeros(created.parameters, np.int64)
    for vector, weight in zip(clipped, weights, strict=True):
        total += vector * weight
    return total


def _clipped(created: TaskCreated, body: bytes) -> Any:
    grid = read_update(body, created.policy, parameters=created.parameters).grid()
    norm2 = sum(int(q) * int(q) for q in grid)
    steps = created.policy.clipping.steps
    scale = min(1 << 16, isqrt((steps * steps << 32) // norm2)) if norm2 else 1 << 16
    return np.sign(grid) * ((np.abs(grid) * scale) >> 16) if scale < 1 << 16 else grid


def _exact(number: float) -> Fraction:
    return Fraction(str(number))


def _root(members: list[UpdateAdmitted]) -> bytes:
    """RFC 9162, section 2.1.1, as it is written there: the tree splits at the largest power of two below its size."""
    leaves = sorted(
        (m.update, [m.salt, m.update, m.body.sha256, m.weight, m.clip_scale, m.zeroed or ""]) for m in members
    )
    return _tree([hashlib.sha256(b"\x00" + encode(row)).digest() for _, row in leaves])


def _tree(leaves: list[bytes]) -> bytes:
    if len(leaves) <= 1:
        return leaves[0] if leaves else hashlib.sha256(b"").digest()
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\x01" + _tree(leaves[:split]) + _tree(leaves[split:])).digest()
