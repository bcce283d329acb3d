"""Laws 2 and 9 for what comes in from outside: one input, one outcome, of its own or in a count of its record."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from msgspec import UNSET

from schemas.canonical import MalformedError, decode, encode
from schemas.certificates import Certificate, parse_certified
from schemas.events import (
    CheckinsDeclined,
    DeploymentFounded,
    DeviceCheckedIn,
    HelperEvent,
    LeaseAbandoned,
    LeaseClosed,
    LeaseGranted,
    Noticed,
    PopulationBudgetSet,
    TaskCreated,
    TaskEvent,
    TaskSucceeded,
    Tick,
    UpdateAdmitted,
    UpdateRefused,
    UpdatesDeclined,
    VersionEvaluated,
)
from schemas.journal import Batch
from schemas.leases import Lease, is_overlong, read_lease
from schemas.masking.statements import HelperSaid
from schemas.signing import Signed, is_signed_by, parse_signed
from schemas.topics import CHECKINS, CLOCK, EVALUATIONS, MASKS, ROLLOUTS, ROUNDS, TASKS, UPDATES
from schemas.updates import parse_update
from streams.log import Record
from tests.judges.logbook import Logbook
from tests.judges.windows import Window, facts, place_of, window_faults, windows

Bin = tuple[str | None, str]
"""What inputs are counted under: the task, None for none, and why."""
NOWHERE: Bin = (None, "")
DECLINED = "declined"


def input_faults(book: Logbook, *, settled: bool) -> Iterator[str]:
    """Everything about check-ins, updates, an operator's words and evaluations."""
    yield from _checkin_faults(book, settled=settled)
    yield from _update_faults(book, settled=settled)
    yield from _task_faults(book, settled=settled)
    # Where nobody rolls versions out nobody owes anything to who would.
    for reader in (ROUNDS.name, ROLLOUTS.name) if book.journals[ROLLOUTS.name].claims else (ROUNDS.name,):
        for window in windows(book, EVALUATIONS.name, settled=settled, by=reader):
            yield from window_faults(window, facts(window, partial(_evaluation, book)))
    for window in windows(book, CLOCK.name, settled=settled) if book.journals[ROLLOUTS.name].claims else ():
        yield from window_faults(window, facts(window, _tick))
    for window in windows(book, MASKS.name, settled=settled):
        yield from window_faults(window, facts(window, partial(_helper_word, book)))


def _task_faults(book: Logbook, *, settled: bool) -> Iterator[str]:
    """The first creation of each name is noticed; what else an operator says is noticed or already so."""
    known: set[str] = set()
    claims: dict[str, str] = {}
    budgets: dict[str, PopulationBudgetSet] = {}
    for window in windows(book, TASKS.name, settled=settled):
        said = facts(window, partial(_task_event, book))
        yield from window_faults(window, said)
        for record, fact in zip(window.records, said, strict=True):
            if isinstance(fact, PopulationBudgetSet) and Noticed(fact=fact) in window.decided(record):
                budgets[fact.population] = fact
            home = budgets.get(fact.task.partition(".")[0]) if isinstance(fact, TaskCreated | TaskSucceeded) else None
            # Out of a population with a budget nobody carries on.
            is_claim = isinstance(fact, TaskSucceeded) and fact.task in known
            if is_claim and (home is None or fact.successor.partition(".")[0] == home.population):
                claims.setdefault(fact.task, fact.successor)
            is_new = isinstance(fact, TaskCreated) and fact.task not in known
            # Two successors of one parent would each spend what it has left.
            if is_new and home is not None:
                counts = "enrolled" if fact.policy.is_enrolled else "open"
                is_new = fact.policy.privacy is not None and counts == home.identity
            if is_new and fact.parent in known and claims.get(fact.parent) != fact.task:
                is_new = False
            if is_new:
                known.add(fact.task)
            if is_new != (isinstance(fact, TaskCreated) and Noticed(fact=fact) in window.decided(record)):
                yield f"{TASKS.name}@{record.offset}: the creation of {fact.task} is not noticed exactly once"


# --- updates --------------------------------------------------------------------------------------------------------


def _update_faults(book: Logbook, *, settled: bool) -> Iterator[str]:
    """Every update with a valid lease and signature has exactly one outcome; each lease at most one of its own."""
    outcomes: dict[str, str] = {}
    after: dict[str, TaskCreated] = {}
    for window in windows(book, UPDATES.name, settled=settled):
        before, after = after, {**after, **{new.task: new for new in _created(window.batch)}}
        said = facts(window, partial(_update, book))
        yield from window_faults(window, said)
        counted: list[set[Bin]] = []
        for record, fact in zip(window.records, said, strict=True):
            where = f"{UPDATES.name}@{record.offset}"
            found = [event for event in window.decided(record) if isinstance(event, UpdateAdmitted | UpdateRefused)]
            # A defect may owe an outcome all the same, and the count of a repeat.
            is_passed = place_of(record) in window.passed
            lease = _update(book, record) if found or is_passed else fact
            if found and not isinstance(lease, Lease):
                yield f"{where}: an outcome for what is no update"
            elif found and isinstance(lease, Lease):
                yield from _outcome_faults(where, record, lease=lease, found=found, outcomes=outcomes)
            elif isinstance(lease, Lease):
                bins = _bins(record, lease, outcomes=outcomes, creations=(before, after))
                counted.append(bins | ({NOWHERE} if is_passed else set()))
                if not counted[-1]:
                    yield f"{where}: update {lease.lease} has 0 outcomes"
        yield from _count_faults(window, window.counts(UpdatesDeclined), counted)


def _bins(
    record: Record, lease: Lease, *, outcomes: dict[str, str], creations: Sequence[dict[str, TaskCreated]]
) -> set[Bin]:
    """Under what an update may be counted instead of an outcome of its own."""
    before, after = creations
    # A task that the same record notices may not have been there yet.
    found: set[Bin] = set() if lease.task in before else {(None, "unknown_task")}
    if lease.lease in outcomes:
        found.add((lease.task, "duplicate"))
    is_late = record.time_ms > lease.deadline_ms
    # Outcomes are forgotten long after the deadline; until then a repeat is one, whenever it comes.
    if lease.task in after and (is_late or lease.lease not in outcomes):
        created = after[lease.task]
        is_long = is_overlong(lease, lease_ms=created.policy.lease_ms, at_ms=record.time_ms)
        if is_long or lease.policy_sha256 != created.policy_sha256:
            found.add((lease.task, "other_policy"))
        elif is_late:
            found.add((lease.task, "expired"))
    return found


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
    if record.time_ms > lease.deadline_ms:
        yield f"{where}: {outcome}, appended {record.time_ms - lease.deadline_ms} ms after the deadline"
    if lease.lease in outcomes:
        yield f"{where}: update {lease.lease} is {outcome}, and was {outcomes[lease.lease]} before"
    outcomes.setdefault(lease.lease, outcome)


# --- check-ins ------------------------------------------------------------------------------------------------------


def _checkin_faults(book: Logbook, *, settled: bool) -> Iterator[str]:
    """Every check-in got a lease, is counted as declined, or came while its device's lease was in flight."""
    flying: dict[str, tuple[str, str, bytes]] = {}
    after: frozenset[str] = frozenset()
    for window in windows(book, CHECKINS.name, settled=settled):
        before, after = after, after | {new.task for new in _created(window.batch)}
        held = set(flying.values())
        for event in _events(window.batch):
            if isinstance(event, LeaseGranted):
                flying[event.lease] = (event.task, event.device, event.public_key)
                held.add(flying[event.lease])
            elif isinstance(event, LeaseClosed):
                flying.pop(event.lease, None)
        said = facts(window, partial(_checkin, _deployments(book)))
        yield from window_faults(window, said)
        counted: list[set[Bin]] = []
        for record, fact in zip(window.records, said, strict=True):
            asked = (fact.task, fact.device, fact.public_key) if isinstance(fact, DeviceCheckedIn) else None
            granted = [event for event in window.decided(record) if isinstance(event, LeaseGranted)]
            for event in granted:
                if asked != (event.task, event.device, event.public_key):
                    yield f"{window.where}: a lease for {event.device}, which did not ask for it"
            yield from _abandon_faults(window, record, fact=fact)
            if asked is not None and not granted:
                unknown: set[Bin] = set() if asked[0] in before else {(None, "unknown_task")}
                declined: set[Bin] = {(asked[0], DECLINED)} if asked[0] in after else set()
                # Who has a lease in flight is told so, and was perhaps declined before or after it.
                counted.append(unknown | declined | ({NOWHERE} if asked in held else set()))
        found = Counter[Bin]()
        for (task, reason), count in window.counts(CheckinsDeclined).items():
            found[task, reason if reason == "unknown_task" else DECLINED] += count
        yield from _count_faults(window, found, counted)


def _abandon_faults(window: Window, record: Record, *, fact: Any) -> Iterator[str]:
    """A lease is abandoned by the device that holds it, for the reason that it said."""
    for event in window.decided(record):
        if not isinstance(event, LeaseClosed) or event.outcome != "abandoned":
            continue
        ended = (event.task, event.lease, event.device, event.reason)
        if not isinstance(fact, LeaseAbandoned) or ended != (fact.task, fact.lease, fact.device, fact.reason):
            yield f"{window.where}: the lease of {event.device} is abandoned, which it did not say"


# --- counts ---------------------------------------------------------------------------------------------------------


def _count_faults(window: Window, found: Counter[Bin], inputs: Sequence[set[Bin]]) -> Iterator[str]:
    """Each of these inputs is counted once, under one of what it may be counted under."""
    most, least = len(inputs), sum(NOWHERE not in bins for bins in inputs)
    if not least <= found.total() <= most:
        yield f"{window.where}: {found.total()} counted, of {most} inputs of which {least} have no other outcome"
    for each in found.keys() | {one for bins in inputs for one in bins} - {NOWHERE}:
        must, may = sum(bins == {each} for bins in inputs), sum(each in bins for bins in inputs)
        if not must <= found[each] <= may:
            yield f"{window.where}: {each[1]} of task {each[0]} is counted {found[each]} times, not {must} to {may}"


# --- what a record says ---------------------------------------------------------------------------------------------


def _events(batch: Batch | None) -> list[Any]:
    return [event for decision in batch.decisions for event in decision.events] if batch is not None else []


def _created(batch: Batch | None) -> list[TaskCreated]:
    """The tasks that a batch notices."""
    noticed = [event.fact for event in _events(batch) if isinstance(event, Noticed)]
    return [fact for fact in noticed if isinstance(fact, TaskCreated)]


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
    holds = holds and score.evaluator in (UNSET, hashlib.sha256(evaluator.public_key).hexdigest()[:16])
    return score if is_certified and is_signed and holds and evaluator.role == "evaluator" else None


def _tick(record: Record) -> Tick | None:
    return Tick() if record.value == encode(Tick()) else None


def _helper_word(book: Logbook, record: Record) -> HelperEvent | None:
    """What a helper says; None for what no helper of the task's policy signed."""
    try:
        message = parse_signed(record.value or b"")
        said = decode(message.payload, HelperSaid)
    except MalformedError:
        return None
    noticed = [event.fact for event in book.rounds.events(Noticed) if isinstance(event.fact, TaskCreated)]
    created = next((fact for fact in noticed if fact.task == said.event.task), None)
    helpers = created.policy.masked_by.helpers if created is not None and created.policy.is_masked else ()
    if created is None or created.deployment != said.deployment or said.event.helper >= len(helpers):
        return None
    return said.event if is_signed_by(message, bytes.fromhex(helpers[said.event.helper])) else None


def _deployments(book: Logbook) -> set[bytes]:
    """That of the book, or those of all tasks that an operator ever wrote into it."""
    written = [_task_event(book, record) for record in book.inputs[TASKS.name]]
    return {book.deployment} if book.deployment else {event.deployment for event in written if event is not None}


def _checkin(deployments: set[bytes], record: Record) -> DeviceCheckedIn | LeaseAbandoned | Tick | None:
    # Of a record's messages the first alone lets time pass.
    if record.value == encode(Tick()) and not record.message:
        return Tick()
    try:
        message = parse_signed(record.value or b"")
        checkin: Any = decode(message.payload, DeviceCheckedIn | LeaseAbandoned)  # type: ignore[arg-type]
    except MalformedError:
        return None
    is_own = checkin.device == hashlib.sha256(checkin.public_key).hexdigest()[:32]
    named = [Signed(b"fedlog/checkin/1" + each + message.payload, message.signature) for each in deployments]
    return checkin if is_own and any(is_signed_by(each, checkin.public_key[2:]) for each in named) else None


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
