"""Checks laws 2 to 6 and 8 to 10 of the design on one partition, from outside: it knows the log and the schemas alone.

`check(log, partition, settled=...)` gives a line for each violation. `settled` says that everybody is idle and has read
to the end: then what has no outcome never gets one. Without it only what lies below the positions in the journals is
asked for.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

from schemas.canonical import MalformedError, decode, encode
from schemas.certificates import Certificate, parse_certified
from schemas.events import (
    CheckinsDeclined,
    DeploymentFounded,
    DeviceCheckedIn,
    InputsDropped,
    LeaseClosed,
    LeaseGranted,
    ModelPublished,
    Noticed,
    RoundAbandoned,
    RoundCharged,
    RoundProposed,
    RoundWithheld,
    TaskClosed,
    TaskCreated,
    TaskEvent,
    TaskHalted,
    TaskPaused,
    TaskResumed,
    Tick,
    UpdateAdmitted,
    UpdateRefused,
    VersionEvaluated,
)
from schemas.journal import Decision
from schemas.leases import Lease, read_lease
from schemas.signing import Signed, is_signed_by, parse_signed
from schemas.topics import CHECKINS, EVALUATIONS, LEDGER, ROUNDS, TASKS, UPDATES
from schemas.updates import parse_update
from streams.log import EventLog, Record
from tests.judges.defects import defect_faults, facts, is_passed
from tests.judges.logbook import INPUTS, READS, Journal, Logbook, differences, read
from tests.judges.models import model_faults
from tests.judges.published import announcement_faults
from tests.judges.rounds import round_faults, sum_faults, totals

TASK_NEWS = (TaskCreated, TaskPaused, TaskResumed, TaskClosed)
ROUND_NEWS = (RoundProposed, ModelPublished, RoundAbandoned, TaskHalted)
_END = float("inf")


def check(log: EventLog, partition: int, *, settled: bool, sums: bool = True, defects: bool = False) -> list[str]:
    """One line for each violation, empty where every law holds; `sums` recomputes sums and models from the bodies.

    A defect of our own code is a violation too, unless the test plants some: `defects`.
    """
    return check_book(log, read(log, partition), settled=settled, sums=sums, defects=defects)


def check_book(log: EventLog, book: Logbook, *, settled: bool, sums: bool = True, defects: bool = False) -> list[str]:
    """The same for a logbook that was read already."""
    found = [
        fault for journal in book.journals.values() for fault in (*journal.faults, *_position_faults(book, journal))
    ]
    found += [fault for journal in book.journals.values() for fault in defect_faults(journal, planted=defects)]
    found += _input_settings(log)
    found += _checkin_faults(book, settled=settled)
    found += _update_faults(book, settled=settled)
    found += _task_faults(book, settled=settled)
    found += _drop_faults(book, EVALUATIONS.name, settled=settled)
    found += _relay_faults(book, settled=settled)
    found += _lease_faults(book, settled=settled)
    found += round_faults(book, settled=settled)
    found += announcement_faults(book, settled=settled)
    if sums:
        recomputed, faults = totals(log, book)
        found += [*faults, *sum_faults(book, recomputed), *model_faults(log, book, recomputed)]
    return found


# --- law 2 and 4: positions -----------------------------------------------------------------------------------------


def _position_faults(book: Logbook, journal: Journal) -> Iterator[str]:
    """Each batch carries where every input stands: never back, past all it decides, true for journals."""
    for (_, before), (offset, after) in pairwise(journal.batches):
        where = f"{journal.topic}@{offset}"
        for topic, position in before.position.offsets.items():
            if after.position.offsets.get(topic, -1) < position:
                yield f"{where}: the position of {topic} goes back from {position}"
        if after.time_ms < before.time_ms:
            yield f"{where}: log time goes back"
    for offset, batch in journal.batches:
        yield from _batch_faults(book, journal, batch, where=f"{journal.topic}@{offset}")


def _batch_faults(book: Logbook, journal: Journal, batch: Any, *, where: str) -> Iterator[str]:
    for decision in batch.decisions:
        if not decision.events:
            yield f"{where}: a decision without events"
        if decision.topic and decision.topic not in READS[journal.topic]:
            yield f"{where}: a decision on {decision.topic}, which this actor does not read"
        if decision.topic and decision.offset >= batch.position.offsets.get(decision.topic, 0):
            yield f"{where}: decides {decision.topic}@{decision.offset}, and its position stays below"
        if decision.time_ms > batch.time_ms:
            yield f"{where}: a decision later than its batch"
    for topic in set(READS[journal.topic]) & book.journals.keys() & batch.position.offsets.keys():
        stand = book.journals[topic].stand(batch.position.offsets[topic])
        if batch.position.journals.get(topic) != stand and not book.journals[topic].faults:
            yield f"{where}: says that {topic} stands at {batch.position.journals.get(topic)}, and it stands at {stand}"


def _input_settings(log: EventLog) -> Iterator[str]:
    """Law 10, where the log can be asked."""
    describe = getattr(log, "describe_topics", None)
    found = describe(list(INPUTS)) if describe else {}
    for topic, as_found in found.items():
        if as_found.config.get("message.timestamp.type") != "LogAppendTime":
            yield f"{topic}: its time is not append time"


# --- law 2: one input, one outcome ----------------------------------------------------------------------------------


def _windows(book: Logbook, topic: str, *, settled: bool) -> Iterator[tuple[Decision | None, list[Record]]]:
    """Each decision on `topic` with the inputs after the decision before; at last None with those after all of them."""
    journal = next(j for name, j in book.journals.items() if topic in READS[name])
    records = book.inputs[topic]
    at = 0
    for decision in (decision for decision in journal.decisions if decision.topic == topic):
        end = at
        while end < len(records) and records[end].offset <= decision.offset:
            end += 1
        yield decision, records[at:end]
        at = end
    bound = _END if settled else journal.position(topic)
    yield None, [record for record in records[at:] if record.offset < bound]


def _judged(topic: str, window: tuple[Decision | None, list[Record]], said: Sequence[Any]) -> Iterator[str]:
    """What holds for every plain input: the decision is on a record that is there, and junk is counted exactly."""
    decision, records = window
    told = zip(records, said, strict=True)
    junk = [record.offset for record, fact in told if fact is None and not is_passed(decision, record)]
    dropped = [event for event in decision.events if isinstance(event, InputsDropped)] if decision else []
    if decision is not None:
        if not records or records[-1].offset != decision.offset:
            yield f"{topic}@{decision.offset}: decided twice, out of order, or without being in the log"
        elif decision.time_ms < records[-1].time_ms:
            yield f"{topic}@{decision.offset}: decided at {decision.time_ms}, before it was appended"
    counted = [(event.topic, event.count, event.first_offset, event.last_offset) for event in dropped]
    expected = [(topic, len(junk), junk[0], junk[-1])] if junk else []
    if counted != expected:
        yield f"{topic}: junk {expected} is counted as {counted}"


def _drop_faults(book: Logbook, topic: str, *, settled: bool) -> Iterator[str]:
    for window in _windows(book, topic, settled=settled):
        yield from _judged(topic, window, facts(window, partial(_evaluation, book)))


def _task_faults(book: Logbook, *, settled: bool) -> Iterator[str]:
    """The first creation of each name is noticed; what else an operator says is noticed or already so."""
    known: set[str] = set()
    for window in _windows(book, TASKS.name, settled=settled):
        decision, records = window
        said = facts(window, partial(_task_event, book))
        yield from _judged(TASKS.name, window, said)
        for record, fact in zip(records, said, strict=True):
            decided = decision.events if decision is not None and decision.offset == record.offset else ()
            is_new = isinstance(fact, TaskCreated) and fact.task not in known
            if is_new:
                known.add(fact.task)
            if is_new != (isinstance(fact, TaskCreated) and Noticed(fact=fact) in decided):
                yield f"{TASKS.name}@{record.offset}: the creation of {fact.task} is not noticed exactly once"


def _update_faults(book: Logbook, *, settled: bool) -> Iterator[str]:
    """Every update with a valid lease and signature has exactly one outcome; an update id is admitted at most once."""
    outcomes: dict[str, str] = {}
    for window in _windows(book, UPDATES.name, settled=settled):
        decision, records = window
        leases = [_update(book, record) for record in records]
        yield from _judged(UPDATES.name, window, leases)
        for record, lease in zip(records, leases, strict=True):
            where = f"{UPDATES.name}@{record.offset}"
            decided = decision.events if decision is not None and decision.offset == record.offset else ()
            found = [event for event in decided if isinstance(event, UpdateAdmitted | UpdateRefused)]
            if isinstance(lease, Lease) and (found or not is_passed(decision, record)):
                yield from _outcome_faults(where, record, lease=lease, found=found, outcomes=outcomes)
            elif found and not isinstance(lease, Lease):
                yield f"{where}: an outcome for what is no update"


def _outcome_faults(
    where: str, record: Record, *, lease: Lease, found: Sequence[Any], outcomes: dict[str, str]
) -> Iterator[str]:
    if len(found) != 1:
        yield f"{where}: update {lease.lease} has {len(found)} outcomes"
        return
    [event] = found
    outcome = "admitted" if isinstance(event, UpdateAdmitted) else event.reason
    if (event.update, event.device, event.task) != (lease.lease, lease.device, lease.task):
        yield f"{where}: the outcome is not for the lease {lease.lease} of {lease.device}"
    if isinstance(event, UpdateAdmitted) and (event.version, event.deadline_ms) != (lease.version, lease.deadline_ms):
        yield f"{where}: admitted under another version or deadline than the lease's"
    is_late = record.time_ms > lease.deadline_ms
    if (outcome == "admitted" and is_late) or (outcome == "expired" and not is_late):
        yield f"{where}: {outcome}, appended {record.time_ms - lease.deadline_ms} ms after the deadline"
    before = outcomes.get(lease.lease)
    if before is None:
        outcomes[lease.lease] = outcome
    elif outcome == "admitted":
        yield f"{where}: update {lease.lease} is admitted, and was {before} before"
    elif outcome not in ("duplicate", before) and not is_late:
        yield f"{where}: update {lease.lease} is {outcome}, and was {before} before"


def _checkin_faults(book: Logbook, *, settled: bool) -> Iterator[str]:
    """Every check-in got a lease, is counted as declined, or came while its device's lease was in flight."""
    windows = _windows(book, CHECKINS.name, settled=settled)
    flying: dict[str, tuple[str, str, bytes]] = {}
    seen: set[tuple[str, str, bytes]] = set()
    for decision in book.selections.decisions:
        if decision.topic == CHECKINS.name:
            yield from _checkin_window(next(windows), seen)
        for event in decision.events:
            if isinstance(event, LeaseGranted):
                flying[event.lease] = (event.task, event.device, event.public_key)
            elif isinstance(event, LeaseClosed):
                flying.pop(event.lease, None)
        seen = set(flying.values()) | (set() if decision.topic == CHECKINS.name else seen)
    yield from _checkin_window(next(windows), seen)


def _checkin_window(window: tuple[Decision | None, list[Record]], seen: set[Any]) -> Iterator[str]:
    decision, records = window
    said = facts(window, _checkin)
    yield from _judged(CHECKINS.name, window, said)
    checkins = [fact for fact in said if isinstance(fact, DeviceCheckedIn)]
    events = decision.events if decision is not None else ()
    where = f"{CHECKINS.name}@{records[0].offset}-{records[-1].offset}" if records else CHECKINS.name
    for granted in (event for event in events if isinstance(event, LeaseGranted)):
        fact = checkins.pop() if checkins else None
        if fact is None or (fact.task, fact.device, fact.public_key) != (
            granted.task,
            granted.device,
            granted.public_key,
        ):
            yield f"{where}: a lease for {granted.device}, which did not ask for it"
    declined = [event for event in events if isinstance(event, CheckinsDeclined)]
    counted = sum(sum(event.counts.values()) for event in declined)
    unanswered = [fact for fact in checkins if (fact.task, fact.device, fact.public_key) not in seen]
    if not len(unanswered) <= counted <= len(checkins):
        yield f"{where}: {counted} declined, of {len(checkins)} check-ins of which {len(unanswered)} had no lease"


# --- law 2: what one actor says, each reader notices once and in order ----------------------------------------------


def _relay_faults(book: Logbook, *, settled: bool) -> Iterator[str]:
    below = _END if settled else book.selections.position(ROUNDS.name)
    told = [
        event.fact if isinstance(event, Noticed) else event
        for event in book.rounds.events(Noticed, *ROUND_NEWS, before=below, but=book.selections.passed(ROUNDS.name))
        if not isinstance(event, Noticed) or isinstance(event.fact, TASK_NEWS)
    ]
    noticed = [event.fact for event in book.selections.events(Noticed)]
    yield from differences("the selector's notices", told, noticed)

    below = _END if settled else book.ledger.position(ROUNDS.name)
    asked = [(e.task, e.round) for e in book.rounds.events(RoundProposed, before=below) if e.mechanism is not None]
    reckoned = {(e.task, e.round) for e in book.rounds.events(RoundProposed, but=book.ledger.passed(ROUNDS.name))}
    answered = [(e.task, e.round) for e in book.ledger.events(RoundCharged, RoundWithheld)]
    # One that was passed as a defect may have been withheld, and may be without an answer.
    yield from differences("charges", [key for key in asked if key in reckoned or key in answered], answered)

    below = _END if settled else book.rounds.position(LEDGER.name)
    answers = book.ledger.events(RoundCharged, RoundWithheld, before=below, but=book.rounds.passed(LEDGER.name))
    heard = [e.fact for e in book.rounds.events(Noticed) if isinstance(e.fact, RoundCharged | RoundWithheld)]
    yield from differences("the aggregator's notices of charges", answers, heard)


def _lease_faults(book: Logbook, *, settled: bool) -> Iterator[str]:
    """An admission rests on a lease of the selector's journal; the selector hears of each, and frees its slot once."""
    granted = {event.lease: event for event in book.selections.events(LeaseGranted)}
    if len(granted) != len(book.selections.events(LeaseGranted)):
        yield "selections: a lease id twice"
    for event in book.rounds.events(UpdateAdmitted):
        lease = granted.get(event.update)
        if lease is None or (lease.device, lease.version, lease.deadline_ms) != (
            event.device,
            event.version,
            event.deadline_ms,
        ):
            yield f"rounds: update {event.update} is admitted under a lease that the selector did not grant"
    below = _END if settled else book.selections.position(ROUNDS.name)
    used = Counter(event.lease for event in book.selections.events(LeaseClosed) if event.outcome == "used")
    passed = book.selections.passed(ROUNDS.name)
    admitted = Counter(event.update for event in book.rounds.events(UpdateAdmitted, before=below, but=passed))
    for lease_id in used | admitted:
        if (used[lease_id], admitted[lease_id]) != (1, 1):
            yield f"lease {lease_id}: admitted {admitted[lease_id]} times, closed as used {used[lease_id]} times"


# --- what a record says ---------------------------------------------------------------------------------------------


def _task_event(book: Logbook, record: Record) -> Any:
    """What the operator wrote; None for what the operator did not sign."""
    try:
        message = parse_signed(record.value or b"")
        event = decode(message.payload, TaskEvent | DeploymentFounded)  # type: ignore[arg-type]
    except MalformedError:
        return None
    is_signed = book.operator is None or is_signed_by(message, book.operator)
    return event if is_signed and book.deployment in (None, event.deployment) else None


def _evaluation(book: Logbook, record: Record) -> VersionEvaluated | None:
    """A score; None for what no certified evaluator signed."""
    try:
        message = parse_certified(record.value or b"")
        certificate = parse_signed(message.certificate)
        evaluator = decode(certificate.payload, Certificate)
        score = decode(message.payload, VersionEvaluated)
    except MalformedError:
        return None
    is_certified = book.operator is None or is_signed_by(certificate, book.operator)
    is_signed = is_signed_by(Signed(message.payload, message.signature), evaluator.public_key)
    holds = evaluator.until_ms >= record.time_ms and book.deployment in (None, evaluator.deployment)
    return score if is_certified and is_signed and holds and evaluator.role == "evaluator" else None


def _checkin(record: Record) -> DeviceCheckedIn | Tick | None:
    if record.value == encode(Tick()):
        return Tick()
    try:
        message = parse_signed(record.value or b"")
        checkin = decode(message.payload, DeviceCheckedIn)
    except MalformedError:
        return None
    is_own = checkin.device == hashlib.sha256(checkin.public_key).hexdigest()[:32]
    return checkin if is_own and is_signed_by(message, checkin.public_key[2:]) else None


def _update(book: Logbook, record: Record) -> Lease | Tick | None:
    """The lease of an update; None for junk. A seal is valid when the selector has handed out those very bytes."""
    if record.value == encode(Tick()):
        return Tick()
    try:
        update = parse_update(record.value or b"")
        lease = read_lease(update.submitted.sealed)
    except MalformedError:
        return None
    known = update.submitted.sealed in book.sealed
    return lease if known and update.is_signed_by(lease.public_key) else None


def counts(log: EventLog, partitions: Iterable[int]) -> Counter[str]:
    """Claims, zombies, batches, events and reasons of refusals, over some partitions; for reports."""
    return sum((counted(read(log, partition)) for partition in partitions), Counter())


def counted(book: Logbook) -> Counter[str]:
    """The same for one logbook."""
    found: Counter[str] = Counter()
    for journal in book.journals.values():
        found += Counter(claims=journal.claims, zombies=journal.zombies, batches=len(journal.batches))
    found.update(type(event).__name__ for event in book.rounds.events())
    found.update(event.reason for event in book.rounds.events(UpdateRefused))
    found["updates"] += len(book.inputs[UPDATES.name])
    return found
