"""The part of the law check that takes masks off: from the log alone, and beside what devices have masked."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from actors.deciders.arithmetic import noise
from schemas.events import MasksSummed, Noticed, RoundProposed, SumStored, UpdateAdmitted
from schemas.topics import ROUNDS
from tests.judges.logbook import Logbook
from tests.judges.masking.words import list_masked

RING = 1 << 32


def list_answers(book: Logbook) -> dict[tuple[str, int], list[MasksSummed]]:
    """The answers that the aggregator has noticed, by task and round, one a helper."""
    found: dict[tuple[str, int], list[MasksSummed]] = {}
    for event in book.rounds.events(Noticed):
        if isinstance(event.fact, MasksSummed):
            found.setdefault((event.fact.task, event.fact.round), []).append(event.fact)
    return found


def add_up(bodies: Iterable[tuple[bytes, int]], masks: Iterable[bytes], *, parameters: int) -> Any:
    """The weighted sum of masked vectors less the sums of their masks, each element within 2^31 on either side.

    In 64 bits, whose wrapping around changes nothing modulo 2^32.
    """
    total = np.zeros(parameters, np.uint64)
    for body, weight in bodies:
        total += np.frombuffer(body, "<u4").astype(np.uint64) * np.uint64(weight)
    for body in masks:
        total -= np.frombuffer(body, "<u4").astype(np.uint64)
    return ((total + RING // 2) % RING).astype(np.int64) - RING // 2


def meant_faults(book: Logbook, meant: Mapping[bytes, Any], *, noise_keys: Mapping[str, bytes]) -> Iterator[str]:
    """Sums that are not those of exactly the members' vectors, and the helpers' noise where they draw it.

    `meant` has the clipped vector in each masked body, by the body's sha256, as its device had it; `noise_keys` are the
    helpers' own, by the name that policies have for each. Nobody who runs a task has either.
    """
    tasks = list_masked(book)
    members: dict[tuple[str, int], list[UpdateAdmitted]] = {}
    for event in book.rounds.events(UpdateAdmitted):
        members.setdefault((event.task, event.round), []).append(event)
    proposed = {(event.task, event.round): event for event in book.rounds.events(RoundProposed)}
    for stored in book.rounds.events(SumStored):
        if stored.task not in tasks:
            continue
        place = stored.task, stored.round
        counted = [each for each in members.get(place, []) if each.zeroed is None]
        where = f"{ROUNDS.name}: task {stored.task}: round {stored.round}"
        if strange := [each.update for each in counted if each.body.sha256 not in meant]:
            yield f"{where}: nobody has masked {strange}"
            continue
        total = np.zeros(tasks[stored.task].parameters, np.int64)
        for each in counted:
            total += each.weight * meant[each.body.sha256]
        masked = tasks[stored.task].policy.masked_by
        if masked.noise == "helpers":
            keys = [noise_keys[helper] for helper in masked.helpers]
            total += sum(noise.draw(key, proposed[place], parameters=total.size) for key in keys)
        if hashlib.sha256(total.astype("<i8").tobytes()).digest() != stored.sum_sha256:
            yield f"{where}: its sum is not that of its members"
