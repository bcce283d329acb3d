"""The rounds of a task, with the vectors of their members and the place that its rule has found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from actors.effects.aggregator.bodies import Bodies, BodyLost
from actors.effects.aggregator.summation import choose_summation
from ops.audit.outliers.scores import Doubles, Member, Scorer, Standing
from ops.audit.verification import make_trust
from schemas.errors import EXIT_USAGE, FedlogError
from schemas.events import ModelPublished, TaskCreated, UpdateAdmitted
from schemas.tensors import clipping
from schemas.topics import ROUNDS, partition_of
from streams.journals import read_decisions
from streams.log import EventLog, TopicPartition

# What a round's vectors may take, as float64.
ELEMENTS_MAX = 1 << 27


class LookingRefused(FedlogError):
    """Nobody may compare the single updates of this task, or it would take too much memory; the message says which."""

    exit_code = EXIT_USAGE
    code = "looking_refused"


def judge_devices(log: EventLog, created: TaskCreated, *, operator: bytes) -> tuple[list[Standing], int]:
    """Every device of a task, and how many of its rounds could not be looked at any more. Raises LookingRefused."""
    require_open_updates(created)
    scorer, lost = Scorer(created.policy.clipping.steps), 0
    bodies = Bodies(log, partition_of(created.task, log.partitions))
    try:
        for members in _read_rounds(log, created, operator=operator):
            try:
                vectors, place = _open(created, members, bodies=bodies)
            # Retention deletes the bodies of published rounds.
            except BodyLost:
                lost += 1
                continue
            if vectors:
                scorer.add_round(vectors, place)
    finally:
        bodies.close()
    return scorer.judge(), lost


def require_open_updates(created: TaskCreated) -> None:
    """Nothing where single updates are in the open anyhow. Raises LookingRefused."""
    # The rules of robust aggregation are refused in the same places, and for the same reasons.
    policy = created.policy
    if policy.privacy is not None:
        raise LookingRefused(f"{created.task!r} is private: who stands out must not be told, and noise would hide it.")
    if policy.tier != "plain":
        raise LookingRefused(
            f"{created.task!r} has tier = {policy.tier!r}, which hides single updates from whoever reads the log."
        )
    if policy.measure is not None:
        raise LookingRefused(f"{created.task!r} measures: answers differ because devices do.")
    if (elements := created.parameters * policy.aggregation.updates_per_round) > ELEMENTS_MAX:
        raise LookingRefused(
            f"A round of {created.task!r} has {elements:,} elements; at most {ELEMENTS_MAX:,} are compared at once."
        )


def _read_rounds(log: EventLog, created: TaskCreated, *, operator: bytes) -> Iterator[list[UpdateAdmitted]]:
    """The members of each published round, in the order of the versions."""
    # Rounds that were abandoned stay in here; they are few.
    open_rounds: dict[int, list[UpdateAdmitted]] = {}
    at = TopicPartition(ROUNDS.name, partition_of(created.task, log.partitions))
    for _, decision, _ in read_decisions(log, at, trust=make_trust(log, operator)):
        for event in decision.events:
            if isinstance(event, UpdateAdmitted) and event.task == created.task:
                open_rounds.setdefault(event.round, []).append(event)
            elif isinstance(event, ModelPublished) and event.task == created.task and event.round is not None:
                yield open_rounds.pop(event.round, [])


def _open(created: TaskCreated, members: Sequence[UpdateAdmitted], *, bodies: Bodies) -> tuple[list[Member], Doubles]:
    """The vectors of a round's members, and where its rule has put the model's step. Raises BodyLost."""
    summation = choose_summation(created)
    running, vectors, weight = summation.start(), list[Member](), 0
    for member in members:
        measured = summation.measure(bodies.fetch(member.body))
        # A zeroed member has no vector.
        if member.zeroed is None and measured.quanta is not None:
            running.add(measured.quanta, update=member.update, weight=member.weight, scale=member.clip_scale)
            vector = clipping.clip(measured.quanta, member.clip_scale).astype(np.int64)
            vectors.append(Member(member.device, vector))
            weight += member.weight
    return vectors, running.total() / max(1, weight)
