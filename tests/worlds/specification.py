"""Given these events, when this comes in, then those events: how a decider is specified, without a log or an actor.

    given(*events).when(input).then(*events)

`given` folds a history, `when` decides on an input and folds what it causes, `then` compares it. Deciding is held to be
pure on the way: the state before and after it has the same digest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, Self, TypeVar

from actors.deciders.decider import Decider, digest
from schemas.events import JournalEvent

S = TypeVar("S")


@dataclass(slots=True)
class Situation(Generic[S]):
    """A decider's state after a history, at a log time, and what the newest input caused."""

    decider: Decider[S]
    state: S
    time_ms: int = 0
    caused: list[JournalEvent] = field(default_factory=list)
    prepare: Callable[[S, object], object] = lambda _, one: one  # what an actor's effects add to an input

    def given(self, *history: JournalEvent) -> Self:
        """Fold events that were decided earlier."""
        for event in history:
            self.decider.evolve(self.state, event, self.time_ms)
        return self

    def at(self, time_ms: int) -> Self:
        """Let log time pass."""
        self.time_ms = time_ms
        return self

    def when(self, *inputs: object) -> Self:
        """Decide on each input, and fold what it causes."""
        for one in inputs:
            before = digest(self.state)
            self.caused = self.decider.decide(self.state, self.prepare(self.state, one), self.time_ms)
            assert digest(self.state) == before, "decide has changed the state"
            self.given(*self.caused)
        return self

    def then(self, *expected: JournalEvent) -> Self:
        """Exactly these events were caused by the newest input."""
        assert self.caused == list(expected)
        return self

    def then_nothing(self) -> Self:
        """The input was known already, or says nothing to this decider."""
        return self.then()


def given(decider: Decider[S], *history: JournalEvent) -> Situation[S]:
    """The situation in which a history has left the decider."""
    return Situation(decider, decider.initial()).given(*history)
