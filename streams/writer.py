"""The commit that every writer of the log has: three steps, and no way back after a doubt.

The writers of both logs extend it, so that they die in the same places. A simulation stops between the steps.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from streams.log import CommitUncertain, Draft, LogError, TopicPartition


class TransactionalWriter(ABC):
    """A `streams.log.Writer` that commits by `begin`, `put` and `finish`, and is dead as soon as one of them fails."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.ends: dict[TopicPartition, int] = {}
        self._death: LogError | None = None

    def commit(self, drafts: Sequence[Draft]) -> list[int]:
        """Append all of `drafts` or none; see `streams.log.Writer`."""
        # Of the same type again: a caller reacts to every commit of a dead writer as to the first.
        if self._death is not None:
            raise type(self._death)(f"the writer {self._name} is dead since: {self._death}")
        # An empty transaction would burn an offset for its marker.
        if not drafts:
            return []
        # Set first: whatever interrupts this call, the writer stays dead unless all three steps came to their end.
        self._death = CommitUncertain(f"it is not known whether {self._name} has committed")
        try:
            self.begin()
            offsets = self.put(drafts)
            self.finish()
        except Exception as error:
            self._death = death = self.judge(error)
            if death is error:
                raise
            raise death from error
        self._death = None
        for draft, offset in zip(drafts, offsets, strict=True):
            self.ends[TopicPartition(draft.topic, draft.partition)] = offset + 1
        return offsets

    def close(self) -> None:
        """Let go of it, without fencing another."""
        self._death = self._death or CommitUncertain("it is closed")

    @abstractmethod
    def begin(self) -> None:
        """Open a transaction."""

    @abstractmethod
    def put(self, drafts: Sequence[Draft]) -> list[int]:
        """Write into the open transaction and return the offsets; readers see nothing of it yet."""

    @abstractmethod
    def finish(self) -> None:
        """Commit the open transaction."""

    @abstractmethod
    def judge(self, error: Exception) -> LogError:
        """What a failed step means: WriterFenced where another has taken over, else CommitUncertain."""
