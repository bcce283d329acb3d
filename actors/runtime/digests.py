"""Digests of an actor's state: when one is due, whether a recorded one holds, and which state to keep as a snapshot."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping

from actors.runtime.journal import WrittenBatch
from actors.runtime.snapshots import Snapshots, StateAtDigest, closing_digest
from schemas.canonical import encode_state
from schemas.events import StateDigest
from streams.log import TopicPartition

SEEN_ASKS, SEEN_EVERY_S = 5, 0.02


class Digests:
    """Counts the decisions since the newest digest, and keeps that digest's state until it can become a snapshot."""

    def __init__(self, snapshots: Snapshots) -> None:
        self.undigested = 0
        self.snapshots = snapshots
        self.canonical = b""  # the state's bytes at the newest digest
        self.noted: StateAtDigest | None = None
        self._rests_on: Mapping[TopicPartition, int] = {}
        self._asks = SEEN_ASKS

    def reset(self) -> None:
        """Forget everything: replay begins at the journal's first record again."""
        self.undigested, self.canonical, self.noted = 0, b"", None

    def take(self, state: object) -> StateDigest:
        """The digest of the state as it is now."""
        decisions, self.undigested = self.undigested, 0
        self.canonical = encode_state(state)
        return StateDigest(decisions=decisions, sha256=hashlib.sha256(self.canonical).digest())

    def confirms(self, state: object, recorded: StateDigest) -> bool:
        """Whether this is the state of a recorded digest, in the form that this release writes."""
        if self.take(state).sha256 == recorded.sha256:
            return True
        self.canonical = b""  # the digest of another form proves no snapshot in this one
        return False

    def mark(self, written: WrittenBatch) -> None:
        """Note a batch that ends in a digest: what led there need not be replayed again."""
        if self.canonical and closing_digest(written.batch):
            self.noted, self._rests_on = StateAtDigest(self.canonical, written), {}

    def keep_snapshot(self) -> None:
        """Store the newest noted state, if there is one, and readers see what had been committed when it was noted."""
        if self.noted is None:
            return
        self._rests_on = self._rests_on or self.snapshots.list_ends()
        # An opening does not look for what is missing beside the batches before a snapshot.
        if not self._is_seen():
            return
        kept, self.noted, self._rests_on = self.noted, None, {}
        # The bytes of a large state are not held until the next digest, which may be far away.
        self.canonical = b""
        self.snapshots.keep(kept)

    def _is_seen(self) -> bool:
        """Whether readers have got that far.

        Markers come a moment after a commit, which is waited for the first time only: a transaction that stays open
        would else slow down every run of inputs.
        """
        asks, self._asks = self._asks, 1
        for number in range(asks):
            if number:
                time.sleep(SEEN_EVERY_S)
            if self.snapshots.is_seen(self._rests_on):
                self._asks = SEEN_ASKS
                return True
        return False
