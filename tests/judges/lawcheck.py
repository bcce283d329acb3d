"""Checks laws 2 to 6 and 8 to 10 of the design on one partition, from outside: it knows the log and the schemas alone.

`check(log, partition, settled=...)` gives a line for each violation. `settled` says that everybody is idle and has read
to the end: then what has no outcome never gets one. Without it only what lies below the positions in the journals is
asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from schemas.events import (
    CosignatureHeard,
    DeviceQuarantined,
    DeviceRevoked,
    EpochDestroyed,
    EpochOpened,
    LeaseClosed,
    LeaseGranted,
    ModelPublished,
    Noticed,
    PopulationBudgetSet,
    QuarantineLifted,
    RolloutEvent,
    RoundAbandoned,
    RoundCharged,
    RoundProposed,
    RoundWithheld,
    TaskClosed,
    TaskCreated,
    TaskHalted,
    TaskPaused,
    TaskResumed,
    TaskSucceeded,
    UpdateAdmitted,
    UpdateRefused,
    UpdatesDeclined,
)
from schemas.topics import LEDGER, REGISTRY, ROLLOUTS, ROUNDS, UPDATES
from streams.log import EventLog
from tests.judges.cohorts import cohort_faults
from tests.judges.defects import defect_faults
from tests.judges.identity.budgets import budget_faults
from tests.judges.identity.members import member_faults
from tests.judges.identity.quarantine import quarantine_faults
from tests.judges.inputs import input_faults
from tests.judges.logbook import INPUTS, READS, Journal, Logbook, differences, read
from tests.judges.masking.words import word_faults
from tests.judges.models import model_faults
from tests.judges.published import announcement_faults
from tests.judges.releasing.drift import drift_faults
from tests.judges.releasing.rollouts import rollout_faults
from tests.judges.rounds import round_faults, sum_faults, totals
from tests.judges.sealing.epochs import epoch_faults

TASK_NEWS = (TaskCreated, TaskPaused, TaskResumed, TaskSucceeded, TaskClosed, QuarantineLifted, PopulationBudgetSet)
ROUND_NEWS = (
    *(RoundProposed, ModelPublished, RoundAbandoned, TaskHalted, EpochOpened, EpochDestroyed),
    DeviceQuarantined,
    CosignatureHeard,
)
# What an example can cause (`schemas.events.checkins`), written down anew.
LEARNING_FAILURES = ("training_failed", "not_finite", "failed", "too_few_classes")
_END = float("inf")


def check(
    log: EventLog,
    partition: int,
    *,
    settled: bool,
    sums: bool | Path = True,
    defects: bool = False,
) -> list[str]:
    """One line for each violation, empty where every law holds; `sums` recomputes sums and models from the bodies.

    Those of sealed tasks need the folder of their keys in the place of True, and are passed over where a key is gone.
    A defect of our own code is a violation too, unless the test plants some: `defects`.
    """
    return check_book(log, read(log, partition), settled=settled, sums=sums, defects=defects)


def check_book(
    log: EventLog, book: Logbook, *, settled: bool, sums: bool | Path = True, defects: bool = False
) -> list[str]:
    """The same for a logbook that was read already."""
    found = [
        fault for journal in book.journals.values() for fault in (*journal.faults, *_position_faults(book, journal))
    ]
    found += [fault for journal in book.journals.values() for fault in defect_faults(journal, planted=defects)]
    found += _input_settings(log)
    found += input_faults(book, settled=settled)
    found += _relay_faults(book, settled=settled)
    found += _lease_faults(book, settled=settled)
    found += cohort_faults(book.selections)
    found += member_faults(book)
    found += budget_faults(book)
    found += quarantine_faults(book)
    found += round_faults(book, settled=settled)
    found += epoch_faults(book.rounds)
    found += word_faults(book, settled=settled)
    found += announcement_faults(book, settled=settled)
    found += rollout_faults(log, book, settled=settled)
    found += drift_faults(log, book)
    if sums:
        recomputed, faults = totals(log, book, epoch_keys=None if sums is True else sums)
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


# --- law 2: what one actor says, each reader notices once and in order ----------------------------------------------


def _relay_faults(book: Logbook, *, settled: bool) -> Iterator[str]:
    below = _END if settled else book.selections.position(ROUNDS.name)
    told = [
        event.fact if isinstance(event, Noticed) else event
        for event in book.rounds.events(Noticed, *ROUND_NEWS, before=below, but=book.selections.passed(ROUNDS.name))
        if not isinstance(event, Noticed) or isinstance(event.fact, TASK_NEWS)
    ]
    heard = [event.fact for event in book.selections.events(Noticed)]
    noticed = [fact for fact in heard if not isinstance(fact, DeviceRevoked)]
    yield from differences("the selector's notices", told, noticed)

    below = _END if settled else book.selections.position(REGISTRY.name)
    gone = book.registry.events(DeviceRevoked, before=below, but=book.selections.passed(REGISTRY.name))
    revoked = [fact for fact in heard if isinstance(fact, DeviceRevoked)]
    yield from differences("the selector's notices of revocations", gone, revoked)

    below = _END if settled else book.ledger.position(ROUNDS.name)
    asked = [(e.task, e.round) for e in book.rounds.events(RoundProposed, before=below) if e.mechanism is not None]
    reckoned = {(e.task, e.round) for e in book.rounds.events(RoundProposed, but=book.ledger.passed(ROUNDS.name))}
    answered = [(e.task, e.round) for e in book.ledger.events(RoundCharged, RoundWithheld)]
    # One that was passed as a defect may have been withheld, and may be without an answer.
    yield from differences("charges", [key for key in asked if key in reckoned or key in answered], answered)

    below = _END if settled else book.rounds.position(LEDGER.name)
    answers = book.ledger.events(RoundCharged, RoundWithheld, before=below, but=book.rounds.passed(LEDGER.name))
    heard = [e.fact for e in book.rounds.events(Noticed) if isinstance(e.fact, RoundCharged | RoundWithheld)]
    # A task that has halted hears of no charge for a round that was given up, as one is whose helper does not answer.
    halted = {event.task for event in book.rounds.events(TaskHalted)}
    over = {(event.task, event.round) for event in book.rounds.events(RoundAbandoned) if event.task in halted}
    answers = [answer for answer in answers if answer in heard or (answer.task, answer.round) not in over]
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
    yield from _report_faults(book)
    below = _END if settled else book.selections.position(ROUNDS.name)
    used = Counter(event.lease for event in book.selections.events(LeaseClosed) if event.outcome == "used")
    passed = book.selections.passed(ROUNDS.name)
    admitted = Counter(event.update for event in book.rounds.events(UpdateAdmitted, before=below, but=passed))
    for lease_id in used | admitted:
        if (used[lease_id], admitted[lease_id]) != (1, 1):
            yield f"lease {lease_id}: admitted {admitted[lease_id]} times, closed as used {used[lease_id]} times"


def _report_faults(book: Logbook) -> Iterator[str]:
    """What the selector keeps of a report is what was admitted, where the policy's rule asks; and why leases ended."""
    created = {e.fact.task: e.fact.policy for e in book.rounds.events(Noticed) if isinstance(e.fact, TaskCreated)}
    told: dict[str, tuple[int | None, int | None]] = {}
    for event in book.rounds.events(UpdateAdmitted):
        rules = created[event.task]
        if rules.selection.rule == "utility" and event.metrics:
            told[event.update] = event.metrics[rules.evaluation.report.index("loss")], event.samples
    for closed in book.selections.events(LeaseClosed):
        if closed.reason in LEARNING_FAILURES and created[closed.task].privacy is not None:
            yield f"lease {closed.lease}: ended as {closed.reason}, which an example can cause, under privacy"
        expected = told.get(closed.lease, (None, None)) if closed.outcome == "used" else (None, None)
        if (closed.loss, closed.samples) != expected:
            yield f"lease {closed.lease}: closed with the report {closed.loss, closed.samples}, told was {expected}"


# --- for reports -----------------------------------------------------------------------------------------------------


def counts(log: EventLog, partitions: Iterable[int]) -> Counter[str]:
    """Claims, zombies, batches, events and reasons of refusals, over some partitions; for reports."""
    return sum((counted(read(log, partition)) for partition in partitions), Counter())


def counted(book: Logbook) -> Counter[str]:
    """The same for one logbook."""
    found: Counter[str] = Counter()
    for journal in book.journals.values():
        found += Counter(claims=journal.claims, zombies=journal.zombies, batches=len(journal.batches))
    found.update(type(event).__name__ for event in book.rounds.events())
    found.update(type(event).__name__ for event in book.journals[ROLLOUTS.name].events(RolloutEvent))
    found.update(event.reason for event in book.rounds.events(UpdateRefused))
    for event in book.rounds.events(UpdatesDeclined):
        found.update(event.counts)
    found["updates"] += len(book.inputs[UPDATES.name])
    return found
