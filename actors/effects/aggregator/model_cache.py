"""The newest model of each task, decoded, so that a release need not fetch what this process has just published."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.tensors import Floats

BYTES_MAX = 256 * 2**20


@dataclass(frozen=True, slots=True)
class CachedModel:
    """A model, its moments, and the sha256 of the model's body."""

    sha256: bytes
    model: Floats
    moments: Floats | None

    @property
    def size(self) -> int:
        """Bytes in memory."""
        return self.model.nbytes + (0 if self.moments is None else self.moments.nbytes)


class ModelCache:
    """Keeps up to `bytes_max`, or one model that is larger. The task whose last release is oldest leaves first."""

    def __init__(self, bytes_max: int = BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._models: dict[str, CachedModel] = {}
        self._bytes = 0

    def put(self, task: str, model: CachedModel) -> None:
        """Keep this model in place of the task's one before."""
        # Taken out first, so that the task moves to the end: the order of the dict is that of the releases.
        self.drop(task)
        self._models[task] = model
        self._bytes += model.size
        # One stays in any case: a model above the limit would otherwise be fetched again for every release.
        while self._bytes > self._bytes_max and len(self._models) > 1:
            self.drop(next(iter(self._models)))

    def get(self, task: str, sha256: bytes) -> CachedModel | None:
        """The model whose body has this digest, if it is the one in memory."""
        model = self._models.get(task)
        # By digest: a release that was stored and then not published leaves a model here that is not the newest.
        return model if model is not None and model.sha256 == sha256 else None

    def drop(self, task: str) -> None:
        """Forget the model of a task."""
        gone = self._models.pop(task, None)
        self._bytes -= 0 if gone is None else gone.size
