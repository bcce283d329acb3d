"""What each charge says of epsilon, beside dp-accounting's privacy loss distributions of what was admitted.

Participations are counted here by themselves, from the admissions, and composed one mechanism after the other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import lru_cache

import dp_accounting
from dp_accounting.pld import PLDAccountant

from schemas.events import Noticed, RoundCharged, RoundProposed, TaskCreated, UpdateAdmitted
from schemas.topics import LEDGER
from tests.judges.logbook import Logbook

# Of a distribution on a grid of losses, which is no closed form.
RELATIVE, ABSOLUTE = 2e-3, 1e-3
Spent = Counter[float]  # participations by noise multiplier


def epsilon_faults(book: Logbook) -> Iterator[str]:
    """Charges whose epsilon is not that of the busiest device: of its task, and of all tasks of its population.

    A task that carries on from another has its own distributions before it, by what its creation says.
    """
    created = {e.fact.task: e.fact for e in book.rounds.events(Noticed) if isinstance(e.fact, TaskCreated)}
    taken: dict[str, Counter[str]] = {}
    most: dict[tuple[str, int], tuple[Spent, dict[str, Spent]]] = {}
    for event in book.rounds.events(UpdateAdmitted, RoundProposed):
        mine = taken.setdefault(event.task, Counter())
        if isinstance(event, UpdateAdmitted):
            mine[event.subject or event.device] += 1
        elif event.mechanism is not None:
            most[event.task, event.round] = (
                _count_own(created[event.task], mine),
                _count_all(created, taken, event.task),
            )
    for charge in book.ledger.events(RoundCharged):
        own, everybody = most[charge.task, charge.round]
        where = f"{LEDGER.name}: {charge.task}: round {charge.round}"
        yield from _compare(where, charge.epsilon, _compute(own, charge.delta))
        if charge.population:
            found = max(_compute(spent, charge.delta) for spent in everybody.values())
            yield from _compare(f"{where}, of its population", charge.population.epsilon, found)


def _count_own(created: TaskCreated, taken: Counter[str]) -> Spent:
    privacy = created.policy.privacy
    assert privacy is not None
    spent = Spent({privacy.noise_multiplier: max(taken.values(), default=0)})
    for before in created.spent_before:
        spent[before.noise_multiplier] += before.participations
    return spent


def _count_all(created: Mapping[str, TaskCreated], taken: Mapping[str, Counter[str]], task: str) -> dict[str, Spent]:
    """What each device has spent over the tasks of this population, which are not carried on from others."""
    found: dict[str, Spent] = {}
    for name, counts in taken.items():
        privacy = created[name].policy.privacy
        if name.partition(".")[0] == task.partition(".")[0] and privacy is not None:
            for unit, count in counts.items():
                found.setdefault(unit, Spent())[privacy.noise_multiplier] += count
    return found


def _compute(spent: Spent, delta: float) -> float:
    return _compute_once(tuple(sorted(spent.items())), delta)


@lru_cache(maxsize=256)
def _compute_once(spent: tuple[tuple[float, int], ...], delta: float) -> float:
    accountant = PLDAccountant()
    for multiplier, count in spent:
        if count:
            accountant.compose(dp_accounting.GaussianDpEvent(multiplier), count)
    return float(accountant.get_epsilon(delta))


def _compare(where: str, told: float, found: float) -> Iterator[str]:
    if abs(told - found) > RELATIVE * found + ABSOLUTE:
        yield f"{where}: epsilon {told}, by dp-accounting {found}"
