"""Who was let in no more, how soon, and how many of them were honest: figures out of the journals alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from statistics import median
from typing import Any

from schemas.events import (
    DeviceQuarantined,
    LeaseGranted,
    MembersCompared,
    ModelPublished,
    Noticed,
    QuarantineLifted,
    UpdateAdmitted,
)
from tests.judges.logbook import Logbook


def judge(book: Logbook, groups: Mapping[str, Collection[str]], *, lifted: str) -> dict[str, Any]:
    """The columns of a row; `groups`: hostile, minority and majority, device by device. `lifted`: who was let in again.

    `precision`: which share of those set apart is hostile; `rounds_until_out`: in how many rounds a hostile device had
    been when it was set apart for the first time; `rounds_hostile`: in how many a hostile device was in all, for who
    is in few rounds cannot be apart in many.
    """
    out = list({event.device: event for event in reversed(book.rounds.events(DeviceQuarantined))})
    counts = {name: len({*out} & {*devices}) for name, devices in groups.items()}
    rounds = [_count_rounds(book, device) for device in out if device in groups["hostile"]]
    compared = book.rounds.events(MembersCompared)
    return {
        **{f"{name}_of": len(devices) for name, devices in groups.items()},
        **{f"{name}_out": counts[name] for name in groups},
        "precision": round(counts["hostile"] / len(out), 3) if out else None,
        "rounds_until_out": median(rounds) if rounds else None,
        "rounds_until_out_most": max(rounds, default=None),
        "rounds_hostile": _count_all(book, groups["hostile"]),
        "leases_after": count_leases_after(book),
        "updates_after_lift": count_updates_after(book, lifted),
        "compared": len(compared),
        "apart": sum(len(event.anomalies) for event in compared),
        "versions": len(book.rounds.events(ModelPublished)),
    }


def _count_rounds(book: Logbook, device: str) -> int:
    """The rounds in which a device was, up to its first quarantine."""
    count = 0
    for event in book.rounds.events(UpdateAdmitted, DeviceQuarantined):
        if event.device != device:
            continue
        if isinstance(event, DeviceQuarantined):
            return count
        count += 1
    return count


def _count_all(book: Logbook, devices: Collection[str]) -> float | None:
    counts = [sum(event.device == device for event in book.rounds.events(UpdateAdmitted)) for device in devices]
    return median(counts) if counts else None


def count_leases_after(book: Logbook) -> int:
    """Leases that the selector granted to whoever was out as far as it knew."""
    out, count = set[str](), 0
    for event in book.selections.events(Noticed, LeaseGranted):
        match event:
            case Noticed(fact=DeviceQuarantined() as held):
                out.add(held.device)
            case Noticed(fact=QuarantineLifted() as word):
                out.discard(word.device)
            case LeaseGranted():
                count += event.device in out
    return count


def count_updates_after(book: Logbook, device: str) -> int:
    """Admitted updates of a device since the operator lifted its quarantine."""
    counts: dict[str, int] = defaultdict(int)
    for event in book.rounds.events(Noticed, UpdateAdmitted):
        if isinstance(event, Noticed) and isinstance(event.fact, QuarantineLifted):
            counts[event.fact.device] = 0
        elif isinstance(event, UpdateAdmitted) and event.device in counts:
            counts[event.device] += 1
    return counts.get(device, 0)
