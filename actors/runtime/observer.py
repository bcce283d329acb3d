"""Who watches an actor: its host's metrics and its log of events. An observer cannot change what is decided."""

from __future__ import annotations

from typing import Protocol

from schemas.journal import Decision


class Observer(Protocol):
    """Called by the actor's own thread, so that it must be quick and must not raise."""

    def note_restored(self, state: object) -> None:
        """A snapshot gave this state; the decisions that led to it are not read back."""
        ...

    def note_replayed(self, decision: Decision) -> None:
        """A decision was read back from the journal."""
        ...

    def note_decided(self, decision: Decision, seq: int) -> None:
        """A decision is in the journal now, in batch `seq`."""
        ...
