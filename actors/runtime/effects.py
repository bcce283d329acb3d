"""The impure half of an actor: what is fetched and checked before a decision, and what follows from it.

`runtime.actor` calls everything here, from one thread. The decider of the same name never sees bytes, keys or the log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from schemas.events import Answer, JournalEvent
from schemas.journal import Decision, JournalPosition
from streams.log import Draft, Record

S = TypeVar("S")
I = TypeVar("I")  # noqa: E741  the input of a decider, as S is its state

# Makes a record that has to be in the same transaction as a batch, from the chain's position after that batch.
ExtraRecord = Callable[[JournalPosition], Draft]


# A pair, because a decider that saw bytes could let them decide, and a replay would not have them again.
class Arrival(NamedTuple):
    """An input on its way to a decision, and the payload that the decider must not see but its effects need again."""

    input: object
    payload: object = None


@dataclass(frozen=True, slots=True)
class FollowUp:
    """What has to happen once a decision is in the journal: answers to devices, and records beside its batch."""

    answers: Sequence[Answer] = ()
    extra_records: Sequence[ExtraRecord] = ()


# One for all: most decisions have nothing to follow, and this lies on the road of every input.
NOTHING = FollowUp()


class Effects(Generic[S, I]):
    """The effects of an actor that needs none; each actor overrides what it needs.

    All memory here can be lost at any time: it is a function of the state, of records and of bodies.
    """

    # Largest number of inputs per transaction. Lower it when another process (a shard worker) must see decisions soon.
    inputs_per_commit_max = 1 << 62
    # Asked once for each run of inputs, so that an actor that never looks ahead pays nothing for it.
    looks_ahead = False
    has_work = False  # whether `make_inputs` could have something

    def use_threads(self, threads: Executor) -> None:
        """From now on work in these threads, and in some of our own, beside the actor's; results stay the same."""

    def look_ahead(self, state: S, records: Sequence[Record]) -> None:
        """Start what takes long: these records are read next, in this order. Called where `looks_ahead`."""

    def read(self, state: S, record: Record) -> Arrival | None:
        """The checked input that a record of a plain topic holds; None for junk, which is counted and dropped."""
        return None

    def look_up(self, said: Sequence[JournalEvent]) -> None:
        """Read from the log what `receive` has to know of the events of one record. Raises LogUnavailable."""

    def receive(self, said: JournalEvent) -> Arrival | None:
        """The input that an event of another actor's journal is; None for what is not believed, and counted."""
        return Arrival(said)

    def fallback_input(self, state: S, record: Record, *, said: Record | JournalEvent) -> I | None:
        """The input to decide instead of one on which our own code fails; None where no outcome is owed.

        `said` is the record itself, or the event in it where it is another journal's. The body of an update is not
        touched: it may be what fails.
        """
        return None

    def follow_up(self, state: S, arrival: Arrival, *, events: Sequence[JournalEvent], time_ms: int) -> FollowUp:
        """Act on a decision that is folded and not yet committed; a process that fails to commit it ends."""
        return NOTHING

    def make_inputs(self, state: S) -> Iterable[I]:
        """Inputs that the state waits for and that this host makes itself (releases), one at a time."""
        return ()

    def remember(self, decision: Decision, position: JournalPosition) -> None:
        """Take note of a decision that is read back from the journal."""

    def recover(self, state: S, *, since_ms: int | None) -> list[Draft]:
        """Records that an earlier life should have written beside its batches, and did not.

        The state is complete. `since_ms` is the append time of the record at which replay began; None: the first one.
        """
        return []

    def delete_unneeded(self, state: S, decided_ms: Mapping[str, int]) -> None:
        """Delete what no decision needs any more; `decided_ms` is the append time up to which each input is decided."""

    def wants_tick(self, state: S) -> bool:
        """Whether the passing of time alone could change something."""
        return False

    def close(self) -> None:
        """Release threads and connections: the actor leaves this partition."""
