"""The privacy budget: charges every round before it may be published, and withholds what it cannot pay for."""

from __future__ import annotations

from dataclasses import dataclass, field

from msgspec import UNSET, UnsetType

from actors.deciders.arithmetic.accounting import epsilon
from actors.deciders.decider import Decider
from actors.deciders.populations.charging import Promise, Promises, find_promise, judge_busiest
from schemas.events import (
    BudgetExhausted,
    JournalEvent,
    Noticed,
    PopulationBudgetSet,
    PopulationCharge,
    RoundCharged,
    RoundProposed,
    RoundWithheld,
    TaskCreated,
)
from schemas.policy import compute_rho
from schemas.topics import population_of


@dataclass(slots=True)
class Account:
    """One task's spending; `participations_max` as the newest proposal had it, charged or withheld."""

    created: TaskCreated
    participations_max: int = 0
    next_round: int = 0


@dataclass(slots=True)
class Ledger:
    """All accounts of one partition."""

    accounts: dict[str, Account] = field(default_factory=dict)
    promises: Promises = UNSET  # to its populations

    def list_sharing(self, task: str) -> list[Account]:
        """All accounts of a task's population."""
        mine = population_of(task)
        return [account for name, account in self.accounts.items() if population_of(name) == mine]


@dataclass(frozen=True, slots=True)
class Unchargeable:
    """A proposal on which our own code failed: what cannot be reckoned is refused (law 8)."""

    proposed: RoundProposed


LedgerInput = JournalEvent | Unchargeable


def decide(state: Ledger, fact: LedgerInput, time_ms: int) -> list[JournalEvent]:
    """The events that this input causes."""
    match fact:
        case Noticed(fact=TaskCreated() as created) if created.policy.privacy is not None:
            return [Noticed(fact=created)]
        case Noticed(fact=PopulationBudgetSet() as allowed):
            return [Noticed(fact=allowed)] if _is_lower(state, allowed) else []
        case RoundProposed() if fact.mechanism is not None:
            return _charge(state, fact)
        case Unchargeable():
            return [_withheld(fact.proposed, "mechanism")]
    return []


def _is_lower(state: Ledger, allowed: PopulationBudgetSet) -> bool:
    # The operator signed each of them; a copy of an old one must not raise what was promised since.
    known = find_promise(state.promises, allowed.population)
    return known is None or allowed.rho_max < known.allowed.rho_max


def _charge(state: Ledger, proposed: RoundProposed) -> list[JournalEvent]:
    account, promise = state.accounts.get(proposed.task), find_promise(state.promises, proposed.task)
    # What the ledger cannot vouch for it withholds: a round without an account or a mechanism may be a forgery.
    if account is None or account.created.policy.privacy is None or proposed.mechanism is None:
        return [_withheld(proposed, "mechanism")]
    privacy, cap = account.created.policy.privacy, account.created.participations_cap or 0
    if not _is_the_policys(proposed, account):
        return [_withheld(proposed, "mechanism")]
    # A device is at most once in a round, so the busiest one gains at most one from a proposal to the next.
    if not account.participations_max <= proposed.participations_max <= account.participations_max + 1:
        return [_withheld(proposed, "participations")]
    # A total over all releases, not the cost of this one: a crash may count too much, never too little.
    total = compute_rho(account.created.list_spent(proposed.participations_max))
    if proposed.participations_max > cap:
        exhausted = BudgetExhausted(task=proposed.task, rho_total=float(total), rho_max=privacy.rho_max)
        return [_withheld(proposed, "budget"), exhausted]
    sharing = state.list_sharing(proposed.task) if promise else ()
    reason = judge_busiest(promise, proposed, accounts=sharing)
    if reason is not None:
        return [_withheld(proposed, reason), *_exhaust(proposed, promise if reason == "budget" else None)]
    return [
        RoundCharged(
            task=proposed.task,
            round=proposed.round,
            mechanism=proposed.mechanism,
            participations_max=proposed.participations_max,
            # The float nearest to the fraction, and never above rho_max: rounding keeps the order of two numbers.
            rho_total=float(total),
            epsilon=epsilon(total, delta=privacy.delta),
            delta=privacy.delta,
            population=_charge_population(proposed, promise, delta=privacy.delta),
        )
    ]


def _charge_population(
    proposed: RoundProposed, promise: Promise | None, *, delta: float
) -> PopulationCharge | UnsetType:
    if promise is None or proposed.busiest is UNSET:
        return UNSET
    total = compute_rho(proposed.busiest)
    return PopulationCharge(
        rho_spent=float(total), rho_max=promise.allowed.rho_max, epsilon=epsilon(total, delta=delta)
    )


def _exhaust(proposed: RoundProposed, promise: Promise | None) -> list[JournalEvent]:
    """That the population's budget, if it is that, pays for no round of this task any more."""
    if promise is None or proposed.busiest is UNSET:
        return []
    total = float(compute_rho(proposed.busiest))
    return [BudgetExhausted(task=proposed.task, rho_total=total, rho_max=promise.allowed.rho_max)]


def _is_the_policys(proposed: RoundProposed, account: Account) -> bool:
    """Unknown means refuse: the noise must be exactly what the policy promised, and the round a new one."""
    policy, mechanism = account.created.policy, proposed.mechanism
    assert policy.privacy is not None
    assert mechanism is not None
    # Compared exactly: noise that is almost as promised is another guarantee.
    promised = (policy.privacy.noise_multiplier, policy.clipping.steps, policy.weight_max, policy.sigma)
    found = (mechanism.noise_multiplier, mechanism.clip_steps, mechanism.weight_max, mechanism.sigma)
    return found == promised and proposed.round >= account.next_round


def _withheld(proposed: RoundProposed, reason: str) -> RoundWithheld:
    return RoundWithheld(
        task=proposed.task,
        round=proposed.round,
        participations_max=proposed.participations_max,
        reason=reason,  # type: ignore[arg-type]
    )


def evolve(state: Ledger, event: JournalEvent, time_ms: int) -> None:
    """Fold one event into the state."""
    match event:
        case Noticed(fact=TaskCreated() as created):
            state.accounts[created.task] = Account(created)
        case Noticed(fact=PopulationBudgetSet() as allowed):
            _promise(state, allowed)
        case RoundCharged() | RoundWithheld() if event.task in state.accounts:
            account = state.accounts[event.task]
            # A withheld round counts as well: its proposal may have been seen.
            account.participations_max = max(account.participations_max, event.participations_max)
            account.next_round = event.round + 1
            promise = find_promise(state.promises, event.task)
            if promise is not None and isinstance(event, RoundCharged) and event.population is not UNSET:
                promise.rho = event.population.rho_spent


def _promise(state: Ledger, allowed: PopulationBudgetSet) -> None:
    kept = {} if state.promises is UNSET else state.promises
    known = kept.get(allowed.population)
    state.promises = {**kept, allowed.population: Promise(allowed, known.rho if known else 0.0)}


def entries(state: Ledger) -> int:
    """Accounts."""
    return len(state.accounts)


PRIVACY_BUDGET: Decider[Ledger] = Decider(initial=Ledger, decide=decide, evolve=evolve, entries=entries)


def make_decider(key_id: bytes) -> Decider[Ledger]:
    """The privacy budget as a decider; it charges whatever key draws the noise."""
    return PRIVACY_BUDGET
