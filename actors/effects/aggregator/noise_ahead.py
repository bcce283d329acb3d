"""The noise of a round, drawn while the round is being charged, so that its release need not wait for it.

It is a function of key and proposal (law 7), whoever draws it and when: what is drawn in vain is thrown away.
"""

from __future__ import annotations

from concurrent.futures import Executor, Future

from actors.deciders.arithmetic import noise
from actors.keys import NoiseKey
from schemas.events import RoundProposed
from schemas.tensors import Grid


class NoiseAhead:
    """For one actor; only its thread calls anything here."""

    def __init__(self, key: NoiseKey) -> None:
        self.key = key
        self._threads: Executor | None = None
        self._begun: tuple[RoundProposed, Future[Grid]] | None = None

    def use_threads(self, threads: Executor) -> None:
        """From now on draw ahead, in one of these threads."""
        self._threads = threads

    def begin(self, proposed: RoundProposed, *, parameters: int) -> None:
        """Draw the noise of this round, unless that of another is under way: one vector is enough to keep."""
        if self._threads is None or self._begun is not None:
            return
        if proposed.mechanism is not None and proposed.mechanism.key_id == self.key.id:
            drawn = self._threads.submit(noise.draw, self.key.secret, proposed, parameters=parameters)
            self._begun = proposed, drawn

    def drop(self, task: str, round_id: int) -> None:
        """Forget a round that gives no version."""
        if self._begun is not None and (self._begun[0].task, self._begun[0].round) == (task, round_id):
            self._begun[1].cancel()
            self._begun = None

    def draw(self, proposed: RoundProposed, *, parameters: int) -> Grid:
        """The noise of this round, int64 of shape (parameters,), for the caller to write to."""
        begun, self._begun = self._begun, None
        # By the whole proposal: what was drawn for another one is no noise of this.
        if begun is not None and begun[0] == proposed:
            return begun[1].result()
        return noise.draw(self.key.secret, proposed, parameters=parameters)
