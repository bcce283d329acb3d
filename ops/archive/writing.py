"""Writes one version into a store: weights, privacy record, and config.json last, by which it is there.

Whoever does the same beside it writes the same bytes, except for config.json, in which one may have more scores.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

from ops.archive import contents
from ops.archive.contents import Digests
from ops.archive.naming import CONFIGURATION, PRIVACY, Place
from ops.archive.reading import PublicTask
from ops.archive.stores import Store, StoreAway, Stored, StoreTaken
from ops.operator import models
from ops.operator.errors import ModelGone
from ops.operator.model_files import FROZEN, WEIGHTS
from schemas.events import TaskCreated, count_elements
from schemas.identifiers import BodyRef, Version
from schemas.tensors import BodyError
from streams.log import EventLog

FETCH_S = 600.0
# Two who write the same file at once: the second looks at what the first has written, and is done.
RACES_MAX = 8


@dataclass(slots=True)
class Held:
    """What the archive holds of one task, as far as this process knows: files of each version, and their sizes."""

    sizes: dict[Version, dict[str, int]] = field(default_factory=dict)
    frozen: str | None = None  # the digest of the frozen tensors, once they are known to be there
    # Of each version that is whole: how many scores its config.json has.
    whole: dict[Version, int] = field(default_factory=dict)
    # Versions whose weights cannot be had any more.
    lost: set[Version] = field(default_factory=set)

    def files(self, version: Version) -> dict[str, int]:
        """Files of a version, with their sizes."""
        return self.sizes.setdefault(version, {})


def find_frozen(created: TaskCreated) -> BodyRef | None:
    """The body of what no version of a task changes; None where there is none."""
    # Of a measure task it belongs to the model that was measured, and not to the answer.
    return None if created.subject is not None else created.frozen


@dataclass(frozen=True, slots=True)
class Writing:
    """Writes versions of one task, and notes what is there."""

    log: EventLog
    store: Store
    task: PublicTask
    held: Held

    def write(self, version: Version, *, with_weights: bool) -> tuple[bool, str]:
        """Write a version, `with_weights` where the log has them; whether there are weights, and why not.

        Raises StoreError, LogUnavailable.
        """
        # First of all: nothing is touched where another's archive stands.
        there = self._read_configuration(version)
        known = None if there is None else contents.find_digests(there[1]).weights
        weights, reason = self._write_weights(version, known=known) if with_weights else (known, "")
        digests = Digests(weights, self._write_frozen())
        self._write_once(Place(self.task.name, version, PRIVACY), contents.write_privacy(self.task, version))
        self._write_configuration(version, digests=digests)
        self.held.whole[version] = len(self.task.evaluations.get(version, ()))
        if weights is None:
            return False, reason or "The policy's [retention] kept them no longer when the archive came."
        return True, ""

    @property
    def _created(self) -> TaskCreated:
        assert self.task.created is not None
        return self.task.created

    def _write_weights(self, version: Version, *, known: str | None) -> tuple[str | None, str]:
        """The digest of the weights, which are there when this returns; None and why where they cannot be had."""
        if known is not None and WEIGHTS in self.held.files(version):
            return known, ""
        try:
            data = self._fetch(self.task.releases[version].published.model, self._created.parameters)
        except (ModelGone, BodyError) as error:
            self.held.lost.add(version)
            return known, str(error)
        self._write_once(Place(self.task.name, version, WEIGHTS), data)
        return hashlib.sha256(data).hexdigest(), ""

    def _write_frozen(self) -> str | None:
        ref = find_frozen(self._created)
        if ref is None or self.held.frozen is not None:
            return self.held.frozen
        name = Place(self.task.name, None, FROZEN).name
        there = self.store.read(name)
        try:
            size = count_elements(self._created.tensors, "frozen")
            data = self._fetch(ref, size) if there is None else there.data
        except (ModelGone, BodyError):
            return None
        if there is None:
            self.store.write(name, data)
        self.held.frozen = hashlib.sha256(data).hexdigest()
        return self.held.frozen

    def _fetch(self, ref: BodyRef, size: int) -> bytes:
        return models.read(self.log, ref, parameters=size, timeout_s=FETCH_S).astype("<f4").tobytes()

    def _write_once(self, place: Place, data: bytes) -> None:
        """What never changes: whoever has written it before has written the same."""
        assert place.version is not None
        if self.held.files(place.version).get(place.file) != len(data):
            self.store.write(place.name, data)
            self.held.files(place.version)[place.file] = len(data)

    def _write_configuration(self, version: Version, *, digests: Digests) -> None:
        name = Place(self.task.name, version, CONFIGURATION).name
        for _ in range(RACES_MAX):
            there = self._read_configuration(version)
            ours = contents.write_configuration(self.task, version, digests=digests)
            said = contents.read_configuration(ours)
            assert said is not None
            # What another has written may be made of more of the log than this process has read.
            if there is not None and contents.is_ahead(there[1], said):
                self.held.files(version)[CONFIGURATION] = len(there[0].data)
                return
            if self.store.replace(name, ours, over=None if there is None else there[0]):
                self.held.files(version)[CONFIGURATION] = len(ours)
                return
        raise StoreAway(f"{self.store.address}: others write {name} again and again.")

    def _read_configuration(self, version: Version) -> tuple[Stored, dict[str, Any]] | None:
        """What stands there of a version. Raises StoreTaken where that is another's."""
        name = Place(self.task.name, version, CONFIGURATION).name
        there = self.store.read(name)
        if there is None:
            return None
        said = contents.read_configuration(there.data)
        if said is None or said.get("announcement") != self.task.releases[version].record:
            raise StoreTaken(
                f"{self.store.address}: {name} is not what the log announces: another deployment's archive, or a "
                "changed file. `fedlog archive check` compares; give each deployment a place of its own."
            )
        return there, said
