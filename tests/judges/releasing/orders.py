"""Judges what the rollout hears, and whether each of the operator's orders is passed on once and obeyed once.

It knows `tasks`, `rounds`, `rollouts` and `models`, and no actor.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from schemas.canonical import MalformedError, decode
from schemas.events import (
    CandidateStaged,
    DriftEnded,
    DriftFound,
    ModelPublished,
    Noticed,
    OrderRefused,
    Promoted,
    RolledBack,
    RolloutHalted,
    RolloutOrdered,
    RolloutResumed,
    TaskCreated,
    TaskEvent,
    VersionEvaluated,
)
from schemas.identifiers import BodyRef
from schemas.policy import Rollout
from schemas.signing import is_signed_by, parse_signed
from schemas.topics import MODELS, ROLLOUTS, ROUNDS, TASKS
from streams.log import EventLog, Record, TopicPartition, scan
from tests.judges.logbook import Logbook, differences
from tests.judges.releasing.drift_gates import relayed_drift_faults

NEWS = (TaskCreated, ModelPublished, RolloutOrdered)
ANSWERS = {"rollback": RolledBack, "halt": RolloutHalted, "resume": RolloutResumed}


def relay_faults(book: Logbook, *, settled: bool) -> Iterator[str]:
    """The rollout hears creations, versions, orders and what is kept from the aggregator alone, once and in order."""
    journal = book.journals[ROLLOUTS.name]
    below = float("inf") if settled else journal.position(ROUNDS.name)
    told = [
        event.fact if isinstance(event, Noticed) else event
        for event in book.rounds.events(
            *(Noticed, ModelPublished, DriftFound, DriftEnded), before=below, but=journal.passed(ROUNDS.name)
        )
    ]
    released = {fact.task for fact in told if isinstance(fact, TaskCreated) and _is_rolled_out(fact)}
    heard = [event.fact for event in journal.events(Noticed) if not isinstance(event.fact, VersionEvaluated)]
    yield from relayed_drift_faults(told, heard)
    news = [fact for fact in told if isinstance(fact, NEWS) and fact.task in released]
    noticed = [fact for fact in heard if isinstance(fact, NEWS)]
    yield from differences("the rollout's notices", news, noticed)
    kept = Counter((fact.task, fact.version) for fact in heard if isinstance(fact, CandidateStaged))
    said = {(fact.task, fact.version) for fact in told if isinstance(fact, CandidateStaged)}
    for (task, version), count in kept.items():
        if count > 1 or (task, version) not in said:
            yield f"{task}: the rollout heard {count} times that {version} is kept, of {sorted(said)}"


def _is_rolled_out(created: TaskCreated) -> bool:
    return isinstance(created.policy.rollout, Rollout)


def pass_on_faults(book: Logbook, *, settled: bool) -> Iterator[str]:
    """Each order that the operator signed, of a number above all before, is noted by the aggregator where it stands."""
    below = float("inf") if settled else book.rounds.position(TASKS.name)
    noted: dict[int, list[RolloutOrdered]] = {}
    for decision in book.rounds.decisions:
        facts = [event.fact for event in decision.events if isinstance(event, Noticed)]
        noted.setdefault(decision.offset if decision.topic == TASKS.name else -1, []).extend(
            fact for fact in facts if isinstance(fact, RolloutOrdered)
        )
    if invented := noted.pop(-1, []):
        yield f"rounds: orders that stand nowhere in `tasks`: {invented[0]}"
    passed = {offset for offset, _ in book.rounds.passed(TASKS.name)}
    creations = [e.fact for e in book.rounds.events(Noticed) if isinstance(e.fact, TaskCreated)]
    rolled_out = {created.task for created in creations if _is_rolled_out(created)}
    known: set[str] = set()
    newest: Counter[str] = Counter()
    for record in book.inputs[TASKS.name]:
        event = _read(book, record)
        if isinstance(event, TaskCreated):
            known.add(event.task)
        if not isinstance(event, RolloutOrdered) or record.offset >= below or record.offset in passed:
            continue
        is_due = event.task in known & rolled_out and event.number > newest[event.task]
        newest[event.task] = max(newest[event.task], event.number) if is_due else newest[event.task]
        if (found := noted.get(record.offset, [])) != ([event] if is_due else []):
            yield f"{TASKS.name}@{record.offset}: order {event.number} of {event.task} is noted as {found}"


def _read(book: Logbook, record: Record) -> Any:
    """What the operator wrote; None for what the operator did not sign."""
    try:
        message = parse_signed(record.value or b"")
        event: Any = decode(message.payload, TaskEvent)  # type: ignore[arg-type]
    except MalformedError:
        return None
    is_signed = book.operator is None or is_signed_by(message, book.operator)
    return event if is_signed and book.deployment in (None, event.deployment) else None


def obedience_faults(walk: Any, order: RolloutOrdered, events: Sequence[Any]) -> Iterator[str]:
    """One order, decided with these events, of a task that stands as `walk` says: obeyed once, refused once, or so."""
    mine = [event for event in events if getattr(event, "task", None) == order.task]
    refused = [event for event in mine if isinstance(event, OrderRefused)]
    where = f"{order.task}: order {order.number}, {order.action} {order.version}"
    if any((each.number, each.action) != (order.number, order.action) for each in refused) or len(refused) > 1:
        yield f"{where}: refused as {refused}"
    if order.action == "promote":
        done = [event for event in mine if isinstance(event, Promoted) and event.version == order.version]
        is_so = order.version is not None and order.version == walk.promoted
    else:
        kind = ANSWERS.get(order.action, ())
        done = [event for event in mine if isinstance(event, kind) and getattr(event, "reason", "ordered") == "ordered"]
        is_so = walk.is_halted is (order.action == "halt") if order.action in ("halt", "resume") else False
    if order.action == "approve":
        is_so, done = not refused, []
    if len(done) + len(refused) + is_so != 1:
        yield f"{where}: obeyed {len(done)} times, refused {len(refused)} times, and it was {'' if is_so else 'not '}so"
    for each in refused:
        if not _is_reason(walk, order, each.reason):
            yield f"{where}: refused as {each.reason}, with {walk.candidate} tried and {walk.promoted} promoted"


def _is_reason(walk: Any, order: RolloutOrdered, reason: str) -> bool:
    """Whether an order may be refused for this."""
    under_way = walk.candidate if walk.candidate is not None else walk.promoted
    match reason:
        case "unpublished":
            return order.version is None or order.version > walk.scorebook.newest
        case "gone":
            window = walk.created.policy.retention.models_kept
            held = (walk.promoted, walk.previous, walk.candidate)
            return order.version not in held and (order.version or 0) <= walk.scorebook.newest - window
        case "no_candidate":
            return walk.candidate is None
        case "nothing_to_roll_back":
            return under_way is None
    return order.version != (walk.candidate if order.action == "approve" else under_way)


def keeping_faults(log: EventLog, book: Logbook, walks: Mapping[str, Any]) -> Iterator[str]:
    """What is promoted, what was before it, and what a canary is of: its model is in the log."""
    # A body is deleted by a tombstone behind it, and is readable for as long as nothing is compacted.
    newest = {record.key: record for record in scan(log, TopicPartition(MODELS.name, book.partition))}
    stored = {record.offset for record in newest.values() if record.value is not None}
    models: dict[tuple[str, int], BodyRef] = {(e.task, e.version): e.model for e in book.rounds.events(ModelPublished)}
    for task, walk in walks.items():
        canary = walk.candidate if walk.stage >= 0 else None
        for version in {walk.promoted, walk.previous, canary} - {None}:
            if not stored.issuperset(models[task, version].offsets):
                yield f"{task}: the model of version {version} is deleted, and the rollout gives it to somebody"
