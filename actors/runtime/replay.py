"""Opens an actor: folds its journal, from a snapshot on where one holds, up to the claim just written (law 1)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from actors.deciders.decider import Decider
from actors.deciders.tallies import TALLY_KINDS
from actors.runtime.digests import Digests
from actors.runtime.effects import Effects
from actors.runtime.inputs import Inputs
from actors.runtime.journal import Journal, WrittenBatch
from actors.runtime.observer import Observer
from actors.runtime.snapshots import LoadedSnapshot
from schemas.errors import FedlogError
from schemas.events import StateDigest
from schemas.journal import ChainBroken, Decision, JournalPosition

S = TypeVar("S")


class ReplayDiffers(FedlogError):
    """The journal folds to another state than the one recorded in it: this code is not the code that wrote it."""

    code = "replay_differs"


@dataclass(frozen=True, slots=True)
class Opened(Generic[S]):
    """A state that is the fold of its whole journal, how many decisions were folded, and from which snapshot on."""

    state: S
    decisions: int
    snapshot: LoadedSnapshot[S] | None

    @property
    def since_ms(self) -> int | None:
        """Append time of the record at which replay began; None: at the first one."""
        return self.snapshot.since_ms if self.snapshot else None


@dataclass(slots=True)
class Replay(Generic[S]):
    """One opening of one actor. Journal, inputs and digests are left where the actor goes on from."""

    decider: Decider[S]
    effects: Effects[S, Any]
    journal: Journal
    inputs: Inputs
    digests: Digests
    observers: Sequence[Observer] = ()

    def open(self, *, whole: bool) -> Opened[S]:
        """Fold the journal; `whole`: without a snapshot. Raises ChainBroken or ReplayDiffers."""
        snapshot = None if whole else self.digests.snapshots.newest(type(self.decider.initial()))
        if snapshot is not None:
            try:
                return self._fold_from(snapshot)
            except (ChainBroken, ReplayDiffers) as error:
                # Snapshot or journal: only the whole journal can tell which of them is wrong.
                self.digests.snapshots.refuse(error)
        # A failed attempt has moved all three, and the fold from the first record must find nothing of it.
        self.journal.set_position(JournalPosition())
        self.inputs.reset()
        self.digests.reset()
        state = self.decider.initial()
        return Opened(state, self._fold(state, self.journal.batches()), None)

    def _fold_from(self, snapshot: LoadedSnapshot[S]) -> Opened[S]:
        self.journal.set_position(snapshot.written.at)
        self.inputs.go_to(snapshot.written.batch)
        # Before the rest is folded: gauges begin at this state and then follow the decisions after it.
        for observer in self.observers:
            observer.note_restored(snapshot.state)
        rest = self.journal.batches(snapshot.written.offset + 1)
        return Opened(snapshot.state, self._fold(snapshot.state, rest), snapshot)

    def _fold(self, state: S, journal: Iterable[WrittenBatch]) -> int:
        decisions = 0
        for written in journal:
            for decision in written.batch.decisions:
                self._fold_decision(state, decision, where=f"{self.journal} offset {written.offset}")
                # What has to lie beside the batches is noted here, and compared with the log after the replay (law 5).
                self.effects.remember(decision, written.at)
                for observer in self.observers:
                    observer.note_replayed(decision)
                decisions += 1
            self.inputs.go_to(written.batch)
            self.digests.mark(written)
        return decisions

    def _fold_decision(self, state: S, decision: Decision, *, where: str) -> None:
        self.digests.undigested += not TALLY_KINDS.issuperset(map(type, decision.events))
        for event in decision.events:
            if isinstance(event, StateDigest) and not self._is_right(state, event):
                raise ReplayDiffers(f"{where}: the state differs")
            self.decider.evolve(state, event, decision.time_ms)

    def _is_right(self, state: S, recorded: StateDigest) -> bool:
        """Whether the state has the recorded digest, in the form of this release or of an earlier one."""
        return self.digests.confirms(state, recorded) or self.decider.recognises(state, recorded.sha256)
