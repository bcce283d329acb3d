"""Decisions on their way into the journal: those that only count are coalesced, and the rest is cut into records."""

from __future__ import annotations

from actors.deciders.decider import coalesced
from schemas.canonical import JOURNAL_RECORD_BYTES_MAX, encode
from schemas.events import StateDigest
from schemas.journal import Decision, Position

_BATCH_BYTES = JOURNAL_RECORD_BYTES_MAX - 16_384  # leaves room for the position beside the decisions


class Uncommitted:
    """What was decided since the last commit, each decision with the position after it."""

    def __init__(self) -> None:
        self._decided: list[tuple[Decision, Position]] = []

    def __bool__(self) -> bool:
        return bool(self._decided)

    @property
    def decisions(self) -> list[Decision]:
        """In the order of deciding."""
        return [decision for decision, _ in self._decided]

    def add(self, decision: Decision, position: Position) -> None:
        """Take one more; one that only counts becomes one with its forerunner."""
        if self._decided and len(decision.events) == 1:
            before = self._decided[-1][0]
            merged = coalesced(before.events[0], decision.events[0]) if len(before.events) == 1 else None
            if merged is not None:
                self._decided.pop()
                decision = Decision(
                    topic=decision.topic, offset=decision.offset, time_ms=decision.time_ms, events=(merged,)
                )
        self._decided.append((decision, position))

    def packed(self, standing: Position) -> list[tuple[list[Decision], Position]]:
        """Decisions in records below the limit, each with the position after its last one; a digest closes its record.

        The inputs after the last decision decided nothing, and are part of the position (`standing`) all the same.
        """
        packed: list[tuple[list[Decision], Position]] = []
        decisions: list[Decision] = []
        room, before = _BATCH_BYTES, standing
        for decision, position in self._decided:
            size = len(encode(decision))
            if decisions and (size > room or isinstance(decisions[-1].events[-1], StateDigest)):
                packed.append((decisions, before))
                decisions, room = [], _BATCH_BYTES
            decisions.append(decision)
            room, before = room - size, position
        return [*packed, (decisions, standing)]
