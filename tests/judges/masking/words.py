"""The part of the law check that hears the helpers of masked tasks: what each may say, once, and what follows from it.

It knows the vocabulary and no helper: what is forbidden is written down here a second time. Whoever reads while all are
at work may know a word and not yet the round that it is about: that is asked for once all is `settled`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from msgspec import UNSET

from schemas.canonical import MalformedError, decode, encode
from schemas.events import (
    HelperEvent,
    LeaseGranted,
    MaskKeyDestroyed,
    MaskKeyOpened,
    MasksRefused,
    MasksSummed,
    ModelCosigned,
    ModelPublished,
    ModelRefused,
    Noticed,
    RoundAbandoned,
    RoundBound,
    RoundCharged,
    RoundProposed,
    TaskCreated,
    UpdateAdmitted,
)
from schemas.masking.statements import HelperSaid
from schemas.signing import is_signed_by, parse_signed
from schemas.topics import MASKS, ROUNDS, SELECTIONS
from tests.judges.logbook import Logbook

FIRST = bytes(32)


@dataclass(frozen=True, slots=True)
class Word:
    """One statement where it first stands in the topic, and the digest that the next one names."""

    offset: int
    digest: bytes
    said: HelperSaid


@dataclass(slots=True)
class Proposal:
    """A proposed round, as the aggregator's journal has it."""

    created: TaskCreated
    round: int
    updates: tuple[str, ...]
    units: tuple[str, ...]
    is_charged: bool


@dataclass(slots=True)
class Spoken:
    """What one helper has said of one task so far; `is_behind` once it has gone on from an old copy."""

    head: bytes = FIRST
    following: dict[bytes, int] = field(default_factory=lambda: {FIRST: 0})
    is_behind: bool = False
    epochs: list[int] = field(default_factory=list)
    destroyed: set[int] = field(default_factory=set)
    bound: dict[str, bytes] = field(default_factory=dict)
    proposals: set[bytes] = field(default_factory=set)
    answered: set[bytes] = field(default_factory=set)
    models: dict[int, bytes] = field(default_factory=dict)


def word_faults(book: Logbook, *, settled: bool) -> Iterator[str]:
    """Whatever a helper may not say, and rounds that ended otherwise than helpers have said."""
    tasks = list_masked(book)
    proposals = _list_proposals(book, tasks)
    ends = Ends()
    for (task, helper), said in read_words(book, tasks).items():
        spoken = Spoken()
        for word in said:
            ends.take(word, proposals)
            found = [*_chain_faults(spoken, word), *_take(spoken, word.said.event, proposals)]
            found += _cosign(spoken, word.said.event)
            yield from (f"{MASKS.name}@{word.offset}: helper {helper} of {task}: {fault}" for fault in found)
            if settled and getattr(word.said.event, "proposal", None) not in (None, *proposals):
                yield f"{MASKS.name}@{word.offset}: helper {helper} of {task} speaks of a proposal that nobody made"
            if not _was_there(book, word.said.event, settled=settled):
                yield f"{MASKS.name}@{word.offset}: helper {helper} of {task} has seen another journal"
    yield from (f"{ROUNDS.name}: {fault}" for fault in _end_faults(book, tasks, ends))
    if settled:
        yield from (f"{SELECTIONS.name}: {fault}" for fault in _lease_faults(book, tasks))


def _lease_faults(book: Logbook, tasks: Mapping[str, TaskCreated]) -> Iterator[str]:
    """A lease leads to no version of which not every helper has co-signed the model that was published."""
    published = {(event.task, event.version): event.model.sha256 for event in book.rounds.events(ModelPublished)}
    cosigned: dict[tuple[str, int], set[int]] = {}
    for (task, helper), words in read_words(book, tasks).items():
        for event in (word.said.event for word in words):
            if isinstance(event, ModelCosigned) and published.get((task, event.version)) == event.model_sha256:
                cosigned.setdefault((task, event.version), set()).add(helper)
    for granted in book.selections.events(LeaseGranted):
        if granted.task in tasks:
            helpers = len(tasks[granted.task].policy.masked_by.helpers)
            if len(cosigned.get((granted.task, granted.version), ())) < helpers:
                yield f"lease {granted.lease} leads to version {granted.version}, which not every helper has co-signed"


def _was_there(book: Logbook, event: HelperEvent, *, settled: bool) -> bool:
    """Whether the journal has the head that a helper saw; one that has read on may know more than we do."""
    seen = event.seen if isinstance(event, RoundBound | ModelCosigned) else UNSET
    last = book.rounds.stands[-1][1].seq if book.rounds.stands else -1
    if seen is UNSET or (seen.seq > last and not settled):
        return True
    return (seen.seq, seen.head) in {(stand.seq, stand.head) for _, stand in book.rounds.stands}


def helper_key_faults(book: Logbook, helper: int, *, folder: Path) -> Iterator[str]:
    """Each key lies in the helper's folder until it has gone, once, before that is said. Ask when it has ended."""
    for (task, number), words in read_words(book, list_masked(book)).items():
        if number != helper:
            continue
        events = [word.said.event for word in words]
        opened = {event.epoch for event in events if isinstance(event, MaskKeyOpened)}
        gone = [event for event in events if isinstance(event, MaskKeyDestroyed)]
        there = {int(file.name.split(".")[-2]) for file in folder.glob(f"*.{task}.*.key")}
        if not gone or any(event.reason == "lost" for event in gone):
            yield f"helper {helper} of {task}: no key has gone, or one was lost"
        # One may be made that nothing names yet, and one deleted that is still to be named.
        held = opened - {event.epoch for event in gone}
        if there - held - {max(opened, default=-1) + 1} or len(held - there) > 1:
            yield f"helper {helper} of {task}: keys of epochs {sorted(there)} are there, and it has said {sorted(held)}"


def list_masked(book: Logbook) -> dict[str, TaskCreated]:
    """The masked tasks that the aggregator has noticed."""
    noticed = [event.fact for event in book.rounds.events(Noticed)]
    return {fact.task: fact for fact in noticed if isinstance(fact, TaskCreated) and fact.policy.tier == "masked"}


def read_words(book: Logbook, tasks: Mapping[str, TaskCreated]) -> dict[tuple[str, int], list[Word]]:
    """What each helper has signed of each task, every word once, in the order of the topic."""
    found: dict[tuple[str, int], dict[bytes, Word]] = {}
    for record in book.inputs[MASKS.name]:
        value = record.value or b""
        try:
            signed = parse_signed(value)
            said = decode(signed.payload, HelperSaid)
        except MalformedError:
            continue
        created, helper = tasks.get(said.event.task), said.event.helper
        keys = () if created is None else [bytes.fromhex(key) for key in created.policy.masked_by.helpers]
        is_here = created is not None and created.deployment == said.deployment and helper < len(keys)
        if is_here and is_signed_by(signed, keys[helper]):
            digest = hashlib.sha256(value).digest()
            found.setdefault((said.event.task, helper), {}).setdefault(digest, Word(record.offset, digest, said))
    return {place: [*words.values()] for place, words in found.items()}


def _list_proposals(book: Logbook, tasks: Mapping[str, TaskCreated]) -> dict[bytes, Proposal]:
    members: dict[tuple[str, int], list[UpdateAdmitted]] = {}
    for event in book.rounds.events(UpdateAdmitted):
        members.setdefault((event.task, event.round), []).append(event)
    charged = {(event.task, event.round) for event in book.ledger.events(RoundCharged)}
    found: dict[bytes, Proposal] = {}
    for event in book.rounds.events(RoundProposed):
        if event.task in tasks:
            joined = members.get((event.task, event.round), [])
            found[hashlib.sha256(encode(event)).digest()] = Proposal(
                tasks[event.task],
                event.round,
                tuple(each.update for each in joined),
                tuple(each.subject or each.device for each in joined),
                (event.task, event.round) in charged,
            )
    return found


def _chain_faults(spoken: Spoken, word: Word) -> Iterator[str]:
    """Each word follows one that was said; what follows another than the last comes from an old copy."""
    said = word.said
    if spoken.following.get(said.prev) != said.seq:
        yield f"word {said.seq} does not follow anything that it has said"
    if said.prev != spoken.head:
        spoken.is_behind = True
    spoken.head, spoken.following[word.digest] = word.digest, said.seq + 1
    is_refusal = isinstance(said.event, MasksRefused | ModelRefused) and said.event.reason == "store_behind"
    if spoken.is_behind and not is_refusal and not isinstance(said.event, MaskKeyDestroyed):
        yield f"says {type(said.event).__name__} from an old copy"


def _take(spoken: Spoken, event: object, proposals: Mapping[bytes, Proposal]) -> Iterator[str]:
    match event:
        case MaskKeyOpened():
            if event.epoch in spoken.epochs or event.epoch < max(spoken.epochs, default=0):
                yield f"opens its key of epoch {event.epoch} after those of {spoken.epochs}"
            spoken.epochs.append(event.epoch)
        case MaskKeyDestroyed():
            if event.epoch not in spoken.epochs or (event.epoch in spoken.destroyed and not spoken.is_behind):
                yield f"destroys its key of epoch {event.epoch} a second time, or never had it"
            spoken.destroyed.add(event.epoch)
        case RoundBound():
            yield from _bind(spoken, event, proposals.get(event.proposal))
        case MasksSummed():
            yield from _answer(spoken, event, proposals.get(event.proposal))
        case MasksRefused():
            # An old copy does not know what it has answered.
            if event.proposal in spoken.answered and not spoken.is_behind:
                yield f"refuses round {event.round}, for which it has answered"
            spoken.answered.add(event.proposal)


def _cosign(spoken: Spoken, event: object) -> Iterator[str]:
    """One model a version, for ever."""
    model = event.model_sha256 if isinstance(event, ModelCosigned) else None
    if isinstance(event, ModelCosigned) and spoken.models.setdefault(event.version, event.model_sha256) != model:
        yield f"co-signs two models for version {event.version}"


def _bind(spoken: Spoken, event: RoundBound, proposal: Proposal | None) -> Iterator[str]:
    told = (event.round, event.updates, event.units)
    if proposal is not None and told != (proposal.round, proposal.updates, proposal.units):
        yield f"binds round {event.round} with other members than it has"
    if event.proposal in spoken.proposals | spoken.answered:
        yield f"binds round {event.round} a second time, or after its answer"
    spoken.proposals.add(event.proposal)
    for update in event.updates:
        if spoken.bound.setdefault(update, event.proposal) != event.proposal:
            yield f"answers for update {update} in two proposals"


def _answer(spoken: Spoken, event: MasksSummed, proposal: Proposal | None) -> Iterator[str]:
    if event.proposal not in spoken.proposals:
        yield f"answers for round {event.round}, which it has not bound"
    if event.proposal in spoken.answered:
        yield f"answers for round {event.round} a second time"
    spoken.answered.add(event.proposal)
    if proposal is not None and proposal.created.policy.privacy is not None and not proposal.is_charged:
        yield f"answers for round {event.round}, which nobody has paid for"


@dataclass(slots=True)
class Ends:
    """By which words a round may end: the answers with their offsets, who refused, whose keys are lost."""

    summed: dict[tuple[str, int], dict[int, int]] = field(default_factory=dict)
    refused: set[tuple[str, int]] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)

    def take(self, word: Word, proposals: Mapping[bytes, Proposal]) -> None:
        event = word.said.event
        match event:
            case MasksSummed() if event.proposal in proposals:
                self.summed.setdefault((event.task, event.round), {})[event.helper] = word.offset
            case MasksRefused() if event.proposal in proposals:
                self.refused.add((event.task, event.round))
            case MaskKeyDestroyed(reason="lost"):
                self.lost.add(event.task)

    def is_answered(self, published: ModelPublished, *, helpers: int, heard: int) -> bool:
        """Whether each helper has answered, and the aggregator had read it; version 0 is of no round."""
        answers = {} if published.round is None else self.summed.get((published.task, published.round), {})
        return published.round is None or sum(offset < heard for offset in answers.values()) == helpers

    def may_abandon(self, abandoned: RoundAbandoned) -> bool:
        """Whether there is the word of a helper that the reason names."""
        place = abandoned.task, abandoned.round
        match abandoned.reason:
            case "masks_refused":
                return place in self.refused
            case "masks_unusable":
                return place in self.summed
            case "epoch_lost":
                return abandoned.task in self.lost
        return True


def _end_faults(book: Logbook, tasks: Mapping[str, TaskCreated], ends: Ends) -> Iterator[str]:
    """A version rests on the answer of each helper, heard before it; and who gave a round up had a reason for it."""
    for _, batch in book.rounds.batches:
        heard = batch.position.offsets.get(MASKS.name, 0)
        for event in (event for decision in batch.decisions for event in decision.events):
            if not isinstance(event, ModelPublished | RoundAbandoned) or event.task not in tasks:
                continue
            where, helpers = f"task {event.task}: round {event.round}", len(tasks[event.task].policy.masked_by.helpers)
            if isinstance(event, RoundAbandoned):
                if not ends.may_abandon(event):
                    yield f"{where} is given up as {event.reason}, and no helper has said anything like it"
            elif not ends.is_answered(event, helpers=helpers, heard=heard):
                yield f"{where} is published, and not all of {helpers} helpers had answered below {heard}"
