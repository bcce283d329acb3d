"""What a replay checks of single events of the aggregator's journal, each against the state before it.

Called by `replay`. Nothing recorded is compared with itself: weights come from the policy, charges from the admissions.
Each function yields what is wrong, in words for people.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from msgspec import UNSET

from actors.deciders.admission import is_full, staleness_of
from actors.deciders.aggregator import mechanism_of
from actors.deciders.aggregator_state import Rounds, Task
from actors.deciders.populations.budgets import find_budget, is_exhausted
from actors.deciders.populations.settings import may_set
from ops.audit.outliers.quarantine import check_admitted, check_lifted
from schemas.events import (
    ModelPublished,
    PopulationBudgetSet,
    QuarantineLifted,
    RoundCharged,
    RoundProposed,
    UpdateAdmitted,
    name_unit,
)
from schemas.identifiers import RoundId
from schemas.policy import compute_rho, to_fraction
from schemas.policy.metrics import list_open_reports, sum_metrics
from schemas.receipts.members import compute_members_root


def check_admission(state: Rounds, admitted: UpdateAdmitted) -> Iterator[str]:
    """Staleness and weight of an admission against the versions so far and the policy's table; and that it may be."""
    task = state.tasks[admitted.task]
    budget, unit = find_budget(state.budgets, admitted.task), name_unit(admitted)
    if budget is not None and is_exhausted(state, task, unit=unit):
        yield f"update {admitted.update}: its device has nothing left of its population's budget, or of its task's"
    yield from check_admitted(task, admitted)
    if admitted.staleness != staleness_of(task, admitted.version):
        yield f"update {admitted.update}: staleness {admitted.staleness}, not {staleness_of(task, admitted.version)}"
    base = task.created.weights[min(admitted.staleness, len(task.created.weights) - 1)]
    samples_max = max(1, task.created.policy.aggregation.samples_max)
    # How many samples a device reported stands in no journal, so only the possible multiples can be checked.
    if admitted.weight % max(base, 1) or not base <= admitted.weight <= base * samples_max:
        yield f"update {admitted.update}: weight {admitted.weight}, which staleness {admitted.staleness} never has"


def check_proposal(state: Rounds, proposed: RoundProposed, *, time_ms: int) -> Iterator[str]:
    """A proposal against the admissions of its round and the policy's mechanism."""
    task = state.tasks[proposed.task]
    assert task.buffer is not None
    members = [*task.buffer.members.values()]
    if proposed.members_root != compute_members_root(members) or proposed.members != len(members):
        yield f"round {proposed.round}: its members, weights or clip scales are not those admitted"
    if not is_full(task, members=len(members), opened_ms=task.buffer.opened_ms, time_ms=time_ms):
        yield f"round {proposed.round}: proposed with {len(members)} members, neither full nor over by time"
    if proposed.weight_sum != sum(member.weight for member in members):
        yield f"round {proposed.round}: weight_sum is not the sum of the weights"
    policy = task.created.policy
    # Of a sealed task they stand beside the sum: the proposal was made before anybody had added them up.
    expected_metrics = None if policy.is_sealed else sum_metrics(members, count=len(list_open_reports(policy)))
    if proposed.metrics != expected_metrics:
        yield f"round {proposed.round}: its metrics are not the sums of what its members report"
    # Reporting more than was counted only wastes privacy budget; reporting less would hide what was spent.
    if proposed.participations_max < task.participations_max:
        reported, counted = proposed.participations_max, task.participations_max
        yield f"round {proposed.round}: participations_max {reported}, counted {counted}"
    budget = find_budget(state.budgets, task.created.task)
    busiest = UNSET if budget is None else budget.busiest
    if proposed.busiest != busiest:
        yield f"round {proposed.round}: what its population's busiest device has spent is not what was admitted"
    expected = mechanism_of(task.created, proposed.mechanism.key_id if proposed.mechanism else b"")
    if proposed.mechanism != expected:
        yield f"round {proposed.round}: the mechanism is not the policy's"


def check_members(task: Task, published: ModelPublished) -> Iterator[str]:
    """That a version is the next, and names the members of its round, as the proposal did."""
    if published.version != task.version + 1:
        yield f"version {published.version} after version {task.version}"
    pending = next((pending for pending in task.pending if pending.id == published.round), None)
    proposed = pending.proposed if pending else None
    expected = (proposed.members_root, proposed.members) if proposed else (None, 0)
    if (published.members_root, published.members) != expected:
        yield f"version {published.version}: its members are not those of round {published.round}"


def check_word(
    state: Rounds, noticed: PopulationBudgetSet | QuarantineLifted, *, signed: Collection[object]
) -> Iterator[str]:
    """That the operator said what an aggregator goes by, and that it may."""
    if isinstance(noticed, PopulationBudgetSet):
        return check_budget(state, noticed, signed=signed)
    return check_lifted(state.tasks.get(noticed.task), noticed, signed=signed)


def check_budget(state: Rounds, noticed: PopulationBudgetSet, *, signed: Collection[object]) -> Iterator[str]:
    """That the operator set a budget that comes into force, and that it may."""
    # Any of them, since a copy is as good: what may not come back is told by the next check.
    if noticed not in signed:
        yield "is not what the operator signed"
    if not may_set(state, noticed, units=state.list_units(noticed.population)):
        yield "cannot come into force: it is not lower, or more is spent, or not all of what is spent is known"


def find_ignored(state: Rounds, signed: Iterable[object]) -> Iterator[str]:
    """Budgets that were signed before others of the operator's words were heard, and that nothing stood against."""
    # What could come into force now could have then: less was spent, by fewer tasks, under a budget no lower.
    for budget in (each for each in signed if isinstance(each, PopulationBudgetSet)):
        if may_set(state, budget, units=state.list_units(budget.population)):
            yield f"the budget of {budget.population!r}, rho {budget.rho_max:g}, was signed and never came into force"


def check_charge(task: Task, round_id: RoundId, *, charge: RoundCharged | None) -> Iterator[str]:
    """That a round of a private task was charged, and enough, before its version was published."""
    pending = next((pending for pending in task.pending if pending.id == round_id), None)
    proposed = pending.proposed if pending else None
    if charge is None or pending is None or proposed is None:
        yield f"round {round_id} was published without a charge in the ledger"
        return
    if not pending.charged:
        yield f"round {round_id} was published before its charge was noticed"
    covers = charge.rho_total >= float(compute_rho(task.created.list_spent(proposed.participations_max)))
    if not covers or charge.mechanism != proposed.mechanism:
        yield f"round {round_id}: charged rho {charge.rho_total:g} does not cover its participations"
    if proposed.busiest is not UNSET:
        spent = compute_rho(proposed.busiest)
        # A charge may say more than was counted, and never less.
        told = charge.population
        if told is UNSET or told.rho_spent < float(spent) or spent > to_fraction(told.rho_max):
            yield f"round {round_id}: its charge does not cover what its population's busiest device has spent"
    if proposed.participations_max > (task.created.participations_cap or 0):
        yield f"round {round_id} was charged, and {proposed.participations_max} participations pass the budget"
