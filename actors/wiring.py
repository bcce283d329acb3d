"""Who reads what, who writes what. A newcomer reads this table first, then the decider that it names."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.topics import CHECKINS, EVALUATIONS, JOURNALS, LEDGER, ROUNDS, SELECTIONS, TASKS, UPDATES, Topic


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """One actor: its journal, which it alone writes; its inputs; and the input in which its host marks time."""

    name: str
    journal: str
    inputs: tuple[str, ...]
    ticks: str | None

    @property
    def journal_inputs(self) -> tuple[str, ...]:
        """Inputs that are another actor's journal."""
        return tuple(topic for topic in self.inputs if topic in {journal.name for journal in JOURNALS})


def _role(name: str, journal: Topic, *, inputs: tuple[Topic, ...], ticks: Topic | None = None) -> Role:
    return Role(
        name=name,
        journal=journal.name,
        inputs=tuple(topic.name for topic in inputs),
        ticks=ticks.name if ticks else None,
    )


#                           writes      reads
SELECTOR_ROLE = _role("selector", SELECTIONS, inputs=(CHECKINS, ROUNDS), ticks=CHECKINS)
AGGREGATOR_ROLE = _role("aggregator", ROUNDS, inputs=(TASKS, UPDATES, LEDGER, EVALUATIONS), ticks=UPDATES)
PRIVACY_ROLE = _role("privacy", LEDGER, inputs=(ROUNDS,))

ROLES = {role.name: role for role in (SELECTOR_ROLE, AGGREGATOR_ROLE, PRIVACY_ROLE)}
