"""Brings an archive up to the log, and keeps it there: whatever ends in between, and whoever does the same beside it.

It keeps nothing of its own: what is in the store says what is left to do. A version is there when its config.json is,
which is written last.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ops.archive import contents
from ops.archive.contents import Digests
from ops.archive.keeping import is_kept
from ops.archive.naming import CONFIGURATION, PRIVACY, Place, parse_place
from ops.archive.reading import PublicTask, PublicTasks
from ops.archive.stores import Store, StoreError
from ops.archive.writing import Held, Writing, find_frozen
from ops.history.following import Follower
from ops.operator.model_files import WEIGHTS
from schemas.identifiers import TaskId, Version
from schemas.topics import partition_of
from streams.log import EventLog, LogUnavailable


@dataclass(frozen=True, slots=True, kw_only=True)
class Archived:
    """A version is in the archive, for the first time where it `is_new`; `weights` False: without, for this reason."""

    task: TaskId
    version: Version
    weights: bool
    reason: str = ""
    is_new: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """The weights of a version have left the archive, as the policy says."""

    task: TaskId
    version: Version


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A version cannot be archived now; the next step tries again."""

    task: TaskId
    version: Version
    reason: str


Step = Archived | Removed | Waiting


class Archivist:
    """Follows the log, and writes what is new into a store. Close it.

    Its words raise StoreError where the store fails: nothing is lost by calling them again.
    """

    def __init__(
        self, log: EventLog, store: Store, *, operator: bytes, deployment: bytes | None, task: TaskId | None = None
    ) -> None:
        self._log, self._store = log, store
        partitions = None if task is None else [partition_of(task, log.partitions)]
        self.public = PublicTasks(operator, deployment=deployment, partitions=log.partitions, task=task)
        self._follower = Follower(log, self.public, partitions=partitions, reads_ahead=True)
        self._held: dict[TaskId, Held] | None = None

    def catch_up(self) -> None:
        """Read the log to where it ended when this was made."""
        self._follower.catch_up()

    def wait(self, timeout_s: float) -> None:
        """Take in what is new."""
        self._follower.poll(timeout_s)

    def close(self) -> None:
        """Release the reader."""
        self._follower.close()

    def step(self) -> Iterator[Step]:
        """Write what is missing, what the log deletes next first; take away what the policy keeps no longer."""
        try:
            if self._held is None:
                self._held, self.public.changed = self._list(), {*self.public.tasks}
            for name in sorted(self.public.changed):
                task, held = self.public.tasks[name], self._held.setdefault(name, Held())
                is_done = True
                for step in self._archive_all(task, held):
                    is_done &= not isinstance(step, Waiting)
                    yield step
                # Nothing leaves before all that replaces it has come.
                if is_done:
                    yield from self._remove(task, held)
                    self.public.changed.discard(name)
        except StoreError:
            # What a store has lost while it was away shows when it is looked at again.
            self._held = None
            raise

    def _archive_all(self, task: PublicTask, held: Held) -> Iterator[Step]:
        for version in self._order(task, held):
            yield from self._archive(task, version, held=held)

    def _list(self) -> dict[TaskId, Held]:
        found: dict[TaskId, Held] = {}
        # All of it, once: a question for each version would take minutes in an object store.
        for name, size in self._store.list_sizes():
            if (place := parse_place(name)) is not None and place.version is not None:
                found.setdefault(place.task, Held()).files(place.version)[place.file] = size
        return found

    def _order(self, task: PublicTask, held: Held) -> list[Version]:
        """What is not written yet: first the versions that the log still keeps, the oldest of them first."""
        left = [version for version in task.find_ready() if self._is_left(task, version, held=held)]
        return sorted(left, key=lambda version: (not _keeps(task, version, newest=task.newest), version))

    def _is_left(self, task: PublicTask, version: Version, *, held: Held) -> bool:
        if held.whole.get(version) != len(task.evaluations.get(version, ())):
            return True
        # A candidate may come back whose weights had left already.
        has_weights = WEIGHTS in held.files(version) or version in held.lost
        return not has_weights and _keeps(task, version, newest=task.newest)

    def _archive(self, task: PublicTask, version: Version, *, held: Held) -> Iterator[Step]:
        if self._is_there(task, version, held=held):
            held.whole[version] = len(task.evaluations.get(version, ()))
            return
        # Before it is written, for whoever is told of it.
        is_new = CONFIGURATION not in held.files(version)
        try:
            with_weights = _keeps(task, version, newest=task.newest)
            has, reason = Writing(self._log, self._store, task, held).write(version, with_weights=with_weights)
        except LogUnavailable as error:
            yield Waiting(task=task.name, version=version, reason=str(error))
            return
        yield Archived(task=task.name, version=version, weights=has, reason=reason, is_new=is_new)

    def _is_there(self, task: PublicTask, version: Version, *, held: Held) -> bool:
        """Whether a listing shows all that would be written, so that nothing of it has to be fetched or read."""
        files = held.files(version)
        if CONFIGURATION not in files or files.get(PRIVACY) != len(contents.write_privacy(task, version)):
            return False
        is_kept_in_log = _keeps(task, version, newest=task.newest)
        assert task.created is not None
        frozen = contents.UNKNOWN if find_frozen(task.created) is not None else None
        # A digest is as long as another: facts of the log alone decide how long the file is.
        digests = [Digests(weights, frozen) for weights in (contents.UNKNOWN, None)]
        whole, without = (len(contents.write_configuration(task, version, digests=each)) for each in digests)
        if files[CONFIGURATION] == without:
            return not is_kept_in_log
        return files[CONFIGURATION] == whole and (WEIGHTS in files or not is_kept_in_log)

    def _remove(self, task: PublicTask, held: Held) -> Iterator[Removed]:
        newest = max(held.whole, default=None)
        for version in sorted(held.sizes):
            if WEIGHTS in held.files(version) and not _keeps(task, version, newest=newest):
                self._store.delete(Place(task.name, version, WEIGHTS).name)
                del held.files(version)[WEIGHTS]
                yield Removed(task=task.name, version=version)


def _keeps(task: PublicTask, version: Version, *, newest: Version | None) -> bool:
    # A version that the log does not know is no business of the policy's; the check names it.
    if task.created is None or version not in task.releases:
        return True
    return is_kept(version, newest, retention=task.created.policy.retention, standing=task.standing)
