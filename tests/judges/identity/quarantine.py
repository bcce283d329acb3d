"""Who is let in no more, told from the journals and the bodies alone: whoever stood apart so often, and nobody else.

What standing apart is stands here a second time, slowly: one member after the other, each of the others left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np
from msgspec import UNSET

from schemas.events import (
    DeviceQuarantined,
    LeaseGranted,
    MembersCompared,
    ModelPublished,
    Noticed,
    QuarantineLifted,
    TaskCreated,
    UpdateAdmitted,
)
from tests.judges.logbook import Logbook

# Longer vectors are folded under a seed: to fold them here again would be the same code once more.
PLAIN_MAX = 4093
# What float64 may make of another order of adding, in thousandths.
SLACK = 2


def quarantine_faults(book: Logbook) -> Iterator[str]:
    """Every comparison, quarantine, admission and lease that what stands before it forbids."""
    tasks: dict[str, _Walk] = {}
    kinds = (Noticed, UpdateAdmitted, MembersCompared, DeviceQuarantined, ModelPublished)
    for event in book.rounds.events(*kinds):
        if isinstance(event, Noticed) and isinstance(event.fact, TaskCreated):
            tasks[event.fact.task] = _Walk(event.fact)
        elif (walk := tasks.get(getattr(getattr(event, "fact", event), "task", ""))) is not None:
            yield from (f"rounds: task {walk.created.task}: {fault}" for fault in walk.take(event))
    for walk in tasks.values():
        if walk.due:
            yield f"rounds: task {walk.created.task}: {sorted(walk.due)} stood apart so often, and are not quarantined"
    yield from _lease_faults(book)


@dataclass(slots=True)
class _Walk:
    """One task's story so far. Each method takes one event and tells what is wrong with it."""

    created: TaskCreated
    members: dict[int, dict[str, str]] = field(default_factory=dict)  # of each round: updates, by device or subject
    story: dict[str, list[tuple[int, bool]]] = field(default_factory=dict)
    out: dict[str, int] = field(default_factory=dict)
    due: dict[str, tuple[int, ...]] = field(default_factory=dict)
    compared: set[int] = field(default_factory=set)

    def take(self, event: Any) -> Iterator[str]:
        """Follow one event of the aggregator's journal."""
        match event:
            case UpdateAdmitted():
                unit = event.subject or event.device
                self.members.setdefault(event.round, {})[unit] = event.update
                if unit in self.out:
                    yield f"update {event.update}: admitted, and {unit} is quarantined"
            case MembersCompared():
                yield from self._compare(event)
            case DeviceQuarantined():
                yield from self._quarantine(event)
            case Noticed(fact=QuarantineLifted() as lifted):
                if self.out.pop(lifted.subject or lifted.device, None) != lifted.round:
                    yield f"the quarantine of {lifted.device} with round {lifted.round} is lifted, and there is none"
            case ModelPublished(round=round_id) if round_id is not None:
                if (round_id in self.compared) != (self.created.policy.quarantine is not UNSET):
                    yield f"version {event.version}: its members were compared, or were not, against the policy"
                # Only now, so that a comparison is of a round with all of its members.
                self.members.pop(round_id, None)

    def _compare(self, event: MembersCompared) -> Iterator[str]:
        asked, members = self.created.policy.quarantine, self.members.get(event.round, {})
        if asked is UNSET or event.round in self.compared or event.members != len(members):
            yield f"round {event.round}: {event.members} members compared, of {len(members)}, or twice, or unasked"
            return
        self.compared.add(event.round)
        apart = {anomaly.subject or anomaly.device: anomaly for anomaly in event.anomalies}
        if {unit: each.update for unit, each in apart.items()} != {u: members.get(u) for u in apart}:
            yield f"round {event.round}: stands apart who is no member"
        if any(each.z < round(1000 * asked.z_min) for each in apart.values()):
            yield f"round {event.round}: stands apart who is below the policy's bound"
        for unit in (unit for unit in members if unit not in self.out):
            story = self.story.setdefault(unit, [])
            story.append((event.round, unit in apart))
            rounds = tuple(number for number, is_apart in story[-asked.window :] if is_apart)
            if asked.rounds and unit in apart and len(rounds) >= asked.rounds:
                self.due[unit] = rounds

    def _quarantine(self, event: DeviceQuarantined) -> Iterator[str]:
        unit = event.subject or event.device
        if self.due.pop(unit, None) != event.rounds or event.round != event.rounds[-1]:
            yield f"{unit} is quarantined for rounds {event.rounds}, in which it did not stand apart so often"
        self.out[unit] = event.round
        self.story.pop(unit, None)


def _lease_faults(book: Logbook) -> Iterator[str]:
    """What the selector has noticed, it goes by."""
    out: set[tuple[str, str]] = set()
    for event in book.selections.events(Noticed, LeaseGranted):
        match event:
            case Noticed(fact=DeviceQuarantined() as held):
                out.add((held.task, held.subject or held.device))
            case Noticed(fact=QuarantineLifted() as lifted):
                out.discard((lifted.task, lifted.subject or lifted.device))
            case LeaseGranted() if (event.task, event.subject or event.device) in out:
                yield f"lease {event.lease}: granted to {event.device}, which is quarantined"


def comparison_faults(created: TaskCreated, told: MembersCompared, vectors: Mapping[str, Any]) -> Iterator[str]:
    """Whether those stand apart of whom it is told, by the clipped vectors of all members, by update."""
    asked = created.policy.quarantine
    if asked is UNSET or created.parameters > PLAIN_MAX or len(vectors) != told.members:
        return
    apart = {anomaly.update: anomaly.z for anomaly in told.anomalies}
    for update, z in find_scores({name: np.asarray(row, np.float64) for name, row in vectors.items()}).items():
        is_near = abs(z - 1000 * asked.z_min) <= SLACK
        if not is_near and (update in apart) != (z >= 1000 * asked.z_min):
            yield f"task {told.task}: round {told.round}: update {update} has a score of {z:.0f}, told {apart}"
        elif update in apart and abs(apart[update] - min(z, 1e6)) > SLACK * max(1.0, z / 1000):
            yield f"task {told.task}: round {told.round}: update {update} has a score of {z:.0f}, not {apart[update]}"


def find_scores(vectors: Mapping[str, Any]) -> dict[str, float]:
    """The smallest of each member's robust z-scores over the rounds without one of the others, in thousandths."""
    if len(vectors) < 5:
        return dict.fromkeys(vectors, 0.0)
    found = dict.fromkeys(vectors, float("inf"))
    for out in vectors:
        for name, z in _score({name: row for name, row in vectors.items() if name != out}).items():
            found[name] = min(found[name], z)
    return {name: 1000 * max(0.0, z) for name, z in found.items()}


def _score(vectors: Mapping[str, Any]) -> dict[str, float]:
    norms = {name: float(np.linalg.norm(row)) for name, row in vectors.items()}
    middle = median(norms.values())
    # Each cut to the median length, by whole 256ths.
    cut = {n: row * (int(256 * min(1.0, middle / norms[n])) / 256 if norms[n] else 1) for n, row in vectors.items()}
    distances, turned = {}, {}
    for name, row in vectors.items():
        others = sum(other for key, other in cut.items() if key != name) / (len(vectors) - 1)
        lengths = norms[name] * float(np.linalg.norm(others))
        distances[name] = float(np.linalg.norm(row - others))
        turned[name] = -float(row @ others) / lengths if lengths else 0.0
    scores = [_far(distances, middle / 16), _far(norms, middle / 16), _far(turned, 1 / 32)]
    return {name: max(score[name] for score in scores) for name in vectors}


def _far(values: Mapping[str, float], least: float) -> dict[str, float]:
    middle = median(values.values())
    mad = max(least, median(abs(value - middle) for value in values.values()))
    return {name: 0.6745 * (value - middle) / mad if mad else 0.0 for name, value in values.items()}
