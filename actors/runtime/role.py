"""What makes an actor: a row of `actors.wiring`, which hosts, metrics, audit, export and tests loop over.

A row names modules instead of importing them: a worker loads the parts of its own actor only, when it first needs them.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, get_args

from schemas.events import (
    AdmissionEvent,
    BudgetEvent,
    DefectFound,
    DriftEvent,
    InputsDropped,
    JournalEvent,
    Noticed,
    RegistryEvent,
    RolloutEvent,
    RoundEvent,
    SelectorEvent,
    StateDigest,
)
from schemas.topics import JOURNALS, LEDGER, REGISTRY, ROLLOUTS, ROUNDS, SELECTIONS

if TYPE_CHECKING:
    from actors.deciders.decider import Decider
    from actors.keys import RoleKey
    from actors.runtime.effects import Effects
    from actors.runtime.meter import Instruments, Meter
    from schemas.events import Event
    from streams.log import EventLog


# What the writer of each journal may say there, beside what every actor does: a rollout that is taken over must not
# charge a round.
_SAID: dict[str, tuple[Any, ...]] = {
    SELECTIONS.name: get_args(SelectorEvent),
    ROUNDS.name: (*get_args(AdmissionEvent), *get_args(RoundEvent), *get_args(DriftEvent)),
    LEDGER.name: get_args(BudgetEvent),
    REGISTRY.name: get_args(RegistryEvent),
    ROLLOUTS.name: get_args(RolloutEvent),
}
_BY_ALL = (Noticed, DefectFound, StateDigest, InputsDropped)


def may_say(journal: str, event: JournalEvent) -> bool:
    """Whether the writer of a journal is the one who says such things; of a journal that is not ours, anything."""
    return journal not in _SAID or isinstance(event, (*_SAID[journal], *_BY_ALL))


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """One actor: what it reads and writes, where its code is, and what people see of it.

    `name` is that of its worker command, its consumer group and its writers. `ticks` is the input in which its host
    marks the passing of time. `turning_points` are the events that a worker's log shows one by one, `written_beside`
    topics that get records in one transaction with the journal. Of the modules, `decider` has `make_decider(key_id)`,
    `effects` has `make_effects(log, partition, *, key)` and `meter` has `make_meter(instruments)`.
    """

    name: str
    summary: str
    journal: str
    inputs: tuple[str, ...]
    ticks: str | None
    decider: str
    effects: str
    meter: str
    turning_points: tuple[type[Event], ...]
    written_beside: tuple[str, ...] = ()

    @property
    def journal_inputs(self) -> tuple[str, ...]:
        """Inputs that are another actor's journal."""
        # By name, because a role says the names of topics only.
        journals = {journal.name for journal in JOURNALS}
        return tuple(topic for topic in self.inputs if topic in journals)

    def load_decider(self, key_id: bytes = b"") -> Decider[Any]:
        """The decider. Whoever only folds a journal need not know `key_id`, the public name of the noise key."""
        decider: Decider[Any] = import_module(self.decider).make_decider(key_id)
        return decider

    def load_effects(self, log: EventLog, partition: int, *, key: RoleKey) -> Effects[Any, Any]:
        """The effects of the actor on one partition."""
        effects: Effects[Any, Any] = import_module(self.effects).make_effects(log, partition, key=key)
        return effects

    def load_meter(self, instruments: Instruments) -> Meter:
        """The metrics that only this actor has."""
        meter: Meter = import_module(self.meter).make_meter(instruments)
        return meter
