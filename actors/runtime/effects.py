"""The impure side of an actor: what is fetched and checked before a decision, and what follows after its commit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Generic, TypeVar

import structlog

from schemas.events import JournalEvent
from schemas.journal import Batch, Decision, JournalPosition
from streams.log import Draft, EventLog, LogUnavailable, Record

S = TypeVar("S")
logger = structlog.get_logger()


class Effects(Generic[S]):
    """Does nothing at any of its places; an actor's own edge overrides those that it needs.

    An edge may throw its memory away at any time: all it holds is a function of the state, of records and of bodies.
    """

    run_max = 1 << 62  # inputs that are decided before a commit, where somebody else waits to read of them

    def employ(self, threads: Executor) -> None:
        """From now on these threads, and some of its own, may work beside the actor's; till then it does all."""

    def expect(self, state: S, records: Sequence[Record]) -> None:
        """Facts of these records are asked for next, in this order: what takes long may begin."""

    def fact(self, state: S, record: Record) -> object | None:
        """What a record of a plain input says, checked; None for junk, which is counted and dropped."""
        return None

    def salvaged(self, record: Record, fact: object) -> object | None:
        """What has to be decided of an input on which our own code fails; None where it is owed no outcome.

        `fact` is the record itself, where it is of a plain input. The body is not touched: it may be what kills.
        """
        return None

    def decided(self, state: S, fact: object, *, events: Sequence[JournalEvent]) -> None:
        """A fact has been decided and folded, not yet committed; a process that fails to commit ends."""

    def beside(self, batch: Batch, at: JournalPosition) -> list[Draft]:
        """Records that go into the same transaction as this batch; `at` is where the chain stands after it."""
        return []

    def committed(self) -> None:
        """All decisions so far are in the journal."""

    def replayed(self, decision: Decision, at: JournalPosition) -> None:
        """A decision was read back from the journal; `at` is where the chain stands after its batch."""

    def opened(self, state: S, *, since_ms: int | None) -> list[Draft]:
        """The state is complete; records that are missing elsewhere and have to be written now.

        `since_ms` is when the journal record was appended from which replay went on; None: it began at the beginning.
        """
        return []

    def internal(self, state: S) -> Iterable[object]:
        """Facts that this actor's state waits for and that the host itself makes, one at a time."""
        return ()

    def housekeep(self, state: S, decided_ms: Mapping[str, int]) -> None:
        """Let go of what nobody needs; `decided_ms` is the append time up to which each input is decided."""

    def close(self) -> None:
        """The actor leaves this partition."""

    def wants_tick(self, state: S) -> bool:
        """Whether the passing of time alone could change something."""
        return False


def tell(log: EventLog, answers: Sequence[Draft]) -> None:
    """Send answers to devices, which are no history: one that is lost is asked for again."""
    try:
        log.append(answers)
    except LogUnavailable as error:
        logger.warning("answers lost", count=len(answers), error=str(error))
