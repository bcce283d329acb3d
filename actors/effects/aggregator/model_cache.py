"""The newest model of each task, decoded, so that a release need not fetch what this process has just published."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.tensors import Floats

BYTES_MAX = 256 * 2**20


@dataclass(frozen=True, slots=True)
class Newest:
    """A model, its moments, and the sha256 of the model's body."""

    sha256: bytes
    model: Floats
    moments: Floats | None

    @property
    def size(self) -> int:
        """Bytes in memory."""
        return self.model.nbytes + (0 if self.moments is None else self.moments.nbytes)


class ModelCache:
    """Holds up to `bytes_max`, or one model that is larger; those whose task has published least lately leave first."""

    def __init__(self, bytes_max: int = BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._held: dict[str, Newest] = {}
        self._bytes = 0

    def put(self, task: str, newest: Newest) -> None:
        """Hold this one in place of the one before."""
        self.drop(task)
        self._held[task] = newest
        self._bytes += newest.size
        while self._bytes > self._bytes_max and len(self._held) > 1:
            self.drop(next(iter(self._held)))

    def get(self, task: str, sha256: bytes) -> Newest | None:
        """The model with this digest, if it is the one that is held."""
        held = self._held.get(task)
        return held if held is not None and held.sha256 == sha256 else None

    def drop(self, task: str) -> None:
        """Let go of what is held of a task."""
        gone = self._held.pop(task, None)
        self._bytes -= 0 if gone is None else gone.size
