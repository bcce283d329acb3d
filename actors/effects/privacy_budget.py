"""The privacy budget's edge: a proposal that cannot be reckoned is withheld, so that its task goes on without it."""

from __future__ import annotations

from actors.deciders.privacy_budget import Ledger, Unchargeable
from actors.runtime.effects import Effects
from schemas.events import RoundProposed
from streams.log import Record


class PrivacyBudgetEffects(Effects[Ledger]):
    """Everything comes from another journal, so there is nothing to check."""

    def salvaged(self, record: Record, fact: object) -> Unchargeable | None:
        """A round that asks for its charge gets a no."""
        return Unchargeable(fact) if isinstance(fact, RoundProposed) and fact.mechanism is not None else None
