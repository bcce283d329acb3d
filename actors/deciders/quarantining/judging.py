"""What the scores of a round lead to: who stood apart in it, and who has done so too often."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from msgspec import UNSET, UnsetType

from actors.deciders.aggregator_state import Round, Task
from actors.deciders.quarantining.watch import Suspect
from schemas.events import (
    Anomaly,
    DeviceQuarantined,
    JournalEvent,
    MembersCompared,
    QuarantineLifted,
    TaskPaused,
    TaskResumed,
    name_unit,
)
from schemas.policy import Policy


@dataclass(frozen=True, slots=True)
class Compared:
    """The host has compared the members of a round: the score of each, by update id, and the seed of the sketches."""

    seed: bytes
    scores: tuple[Anomaly, ...]


def select_apart(scores: Iterable[Anomaly], policy: Policy) -> tuple[Anomaly, ...]:
    """Those that stand apart by the policy's bound."""
    asked = policy.quarantine
    return () if asked is UNSET else tuple(score for score in scores if score.z >= round(asked.z_min * 1000))


def judge_round(task: Task, awaited: Round, *, compared: Compared | UnsetType) -> list[JournalEvent]:
    """Who stands apart in a round that becomes a version, and whoever is quarantined for it."""
    if compared is UNSET or task.watch is UNSET:
        return []
    anomalies = select_apart(compared.scores, task.created.policy)
    told = MembersCompared(
        task=task.created.task,
        round=awaited.id,
        members=len(compared.scores),
        seed=compared.seed,
        anomalies=anomalies,
    )
    return [told, *list_quarantined(task, told)]


def list_quarantined(task: Task, told: MembersCompared) -> Iterable[DeviceQuarantined]:
    """The devices that have stood apart too often with this round; a function of state and event alone."""
    asked, watch = task.created.policy.quarantine, task.watch
    if asked is UNSET or watch is UNSET or not asked.rounds:
        return
    for anomaly in told.anomalies:
        unit = name_unit(anomaly)
        if unit in watch.quarantined:
            continue
        before = watch.suspects.get(unit, Suspect())
        suspect = Suspect(before.apart, [*before.rounds])
        suspect.add(told.round, is_apart=True, window=asked.window)
        if len(suspect.rounds) >= asked.rounds:
            yield DeviceQuarantined(
                task=told.task,
                device=anomaly.device,
                round=told.round,
                reason="anomalous",
                rounds=tuple(suspect.rounds),
                subject=anomaly.subject,
            )


def is_new(task: Task, word: TaskPaused | TaskResumed | QuarantineLifted) -> bool:
    """Whether it is no copy of what the operator has said before: signed, and said no more."""
    if isinstance(word, QuarantineLifted):
        return task.watch is not UNSET and task.watch.is_lifted_by(word)
    return word.number > task.changes
