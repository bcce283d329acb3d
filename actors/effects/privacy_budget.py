"""Effects of the privacy budget: a proposal that cannot be charged is withheld, so that its task goes on without it."""

from __future__ import annotations

from collections.abc import Sequence

from actors.deciders.arithmetic import accounting
from actors.deciders.arithmetic.accounting import epsilon
from actors.deciders.privacy_budget import Ledger, LedgerInput, Unchargeable
from actors.effects.operator_events import OperatorEvents
from actors.keys import RoleKey
from actors.runtime.effects import Arrival, Effects
from actors.runtime.meter import Instruments, Meter
from schemas.events import JournalEvent, Noticed, RoundCharged, RoundProposed, TaskCreated
from schemas.policy import compute_rho
from streams.log import EventLog, Record

# Here, and so at the start of a worker: a decision that imported it would read files (law 1).
accounting.load()


class PrivacyBudgetEffects(Effects[Ledger, LedgerInput]):
    """Everything comes from the aggregator's journal; what it repeats of the operator's words is looked up."""

    def __init__(self, operator_events: OperatorEvents) -> None:
        self._operator_events = operator_events

    def look_up(self, said: Sequence[JournalEvent]) -> None:
        """Read what the operator signed, as far as these events need it. Raises LogUnavailable."""
        self._operator_events.look_up(said)

    def receive(self, said: JournalEvent) -> Arrival | None:
        """What the aggregator says; a policy only where the operator signed it."""
        return Arrival(said) if self._operator_events.vouch_for(said) else None

    def fallback_input(self, state: Ledger, record: Record, *, said: Record | JournalEvent) -> Unchargeable | None:
        """A round that asks for its charge gets a no."""
        # Unknown means refuse (law 8): what cannot be accounted for must not be released.
        return Unchargeable(said) if isinstance(said, RoundProposed) and said.mechanism is not None else None


class PrivacyBudgetMeter(Meter):
    """Shows what each private task has spent, and what is left of it."""

    def __init__(self, instruments: Instruments) -> None:
        self._epsilon = instruments.gauge("privacy_epsilon_spent", "Epsilon at the policy's delta", "task")
        self._epsilon_left = instruments.gauge(
            "privacy_epsilon_left", "Until the budget is spent, at the policy's delta", "task"
        )
        self._rho = instruments.gauge("privacy_rho_spent", "zCDP spent", "task")
        self._rho_left = instruments.gauge("privacy_rho_left", "zCDP left", "task")
        self._created: dict[str, TaskCreated] = {}
        self._epsilon_max: dict[str, float] = {}

    def restore(self, state: Ledger) -> None:
        """What the accounts say."""
        for account in state.accounts.values():
            created = account.created
            assert created.policy.privacy is not None
            # Beyond the cap nothing was charged, only withheld.
            charged = min(account.participations_max, created.participations_cap or 0)
            rho = compute_rho(created.list_spent(charged))
            self._created[created.task] = created
            self._show(created.task, float(rho), epsilon_spent=epsilon(rho, delta=created.policy.privacy.delta))

    def follow(self, event: JournalEvent, time_ms: int) -> None:
        """What a charge leaves."""
        match event:
            case Noticed(fact=TaskCreated() as created) if created.policy.privacy is not None:
                self._created[created.task] = created
            case RoundCharged():
                self._show(event.task, event.rho_total, epsilon_spent=event.epsilon)

    def _show(self, task: str, rho_spent: float, *, epsilon_spent: float) -> None:
        self._rho.labels(task).set(rho_spent)
        self._epsilon.labels(task).set(epsilon_spent)
        if task in self._created:
            privacy = self._created[task].policy.privacy
            assert privacy is not None
            self._rho_left.labels(task).set(privacy.rho_max - rho_spent)
            self._epsilon_left.labels(task).set(self._compute_epsilon_max(task) - epsilon_spent)

    def _compute_epsilon_max(self, task: str) -> float:
        """What the whole budget is worth at the policy's delta."""
        if task not in self._epsilon_max:
            created = self._created[task]
            assert created.policy.privacy is not None
            rho = compute_rho(created.list_spent(created.participations_cap or 0))
            # Kept, because accounting takes milliseconds and a replay shows every charge.
            self._epsilon_max[task] = epsilon(rho, delta=created.policy.privacy.delta)
        return self._epsilon_max[task]


def make_effects(log: EventLog, partition: int, *, key: RoleKey) -> PrivacyBudgetEffects:
    """The effects of the role."""
    return PrivacyBudgetEffects(OperatorEvents(log, partition, key=key))


def make_meter(instruments: Instruments) -> PrivacyBudgetMeter:
    """The meter of the role."""
    return PrivacyBudgetMeter(instruments)
