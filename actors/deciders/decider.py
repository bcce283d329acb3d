"""What a decider is: state, decide and evolve, pure. The actor (`actors.runtime.actor`) runs any of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from schemas.canonical import encode_state
from schemas.events import JournalEvent

S = TypeVar("S")


@dataclass(frozen=True, slots=True, kw_only=True)
class Decider(Generic[S]):
    """Three pure functions; time is log time in ms.

    `decide(state, fact, time_ms)` gives the events that the fact causes; none means "already so".
    `evolve(state, event, time_ms)` folds one event into the state, in place: a state belongs to one actor, and whoever
    fails half-way throws it away and replays. `entries(state)` is its size, by which digests are spaced. `earlier`
    shows a state as releases before this one held it: their digests are in journals for ever.
    """

    initial: Callable[[], S]
    decide: Callable[[S, Any, int], list[JournalEvent]]
    evolve: Callable[[S, JournalEvent, int], None]
    entries: Callable[[S], int]
    earlier: tuple[Callable[[S], object], ...] = ()

    def recognises(self, state: S, sha256: bytes) -> bool:
        """Whether this is the digest of the state, as this release or one before writes it."""
        return digest(state) == sha256 or any(digest(shown(state)) == sha256 for shown in self.earlier)


def digest(state: object) -> bytes:
    """The sha256 of a state's canonical bytes; equal states give equal digests."""
    return hashlib.sha256(encode_state(state)).digest()
