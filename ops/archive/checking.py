"""Compares an archive with the log: every file that should be there, with the bytes that the log's facts give.

Configuration and privacy record are made anew and compared. Weights are compared with the digest of their
configuration, and that with what the aggregator has signed: packed again they are the published body, byte for byte,
or else the log still has it. Where neither can be said they are called unproven, which is no fault.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from ops.archive import contents
from ops.archive.contents import Digests
from ops.archive.keeping import is_kept
from ops.archive.naming import CONFIGURATION, PRIVACY, Place, parse_place
from ops.archive.reading import PublicTask, PublicTasks
from ops.archive.stores import Store
from ops.archive.writing import find_frozen
from ops.operator import models
from ops.operator.errors import ModelGone
from ops.operator.model_files import FROZEN, WEIGHTS
from schemas.identifiers import BodyRef, TaskId, Version
from schemas.tensors import BodyError, pack
from streams.log import EventLog

FETCH_S = 600.0
Kind = Literal["missing", "differs", "not the log's", "behind", "unproven", "left over"]
# What the next run of the archivist mends, or nobody can, is told and is no fault.
_NO_FAULT = ("behind", "unproven", "left over")


@dataclass(frozen=True, slots=True)
class Finding:
    """One file that is not what the log gives, or of which that cannot be said."""

    file: str
    kind: Kind
    detail: str

    @property
    def is_fault(self) -> bool:
        """Whether somebody has to look at it."""
        return self.kind not in _NO_FAULT


@dataclass(slots=True)
class Compared:
    """What was compared: versions, and models whose numbers are proven to be the published ones."""

    findings: list[Finding] = field(default_factory=list)
    versions: int = 0
    proven: int = 0


def check_archive(log: EventLog, store: Store, *, public: PublicTasks, task: TaskId | None = None) -> Compared:
    """Compare all of an archive, or one task of it, with what was read of the log.

    Raises StoreError, LogUnavailable.
    """
    found = Compared()
    # Names alone: what is not expected is named, and never read.
    names = {name for name, _ in store.list_sizes("" if task is None else f"{task}/")}
    for each in sorted(public.tasks.values(), key=lambda told: told.name):
        if each.created is not None and task in (None, each.name):
            checker = _Checker(log, store, each, names=names, found=found)
            found.findings += checker.check()
    expected = {name for name in names if _is_expected(name, public)}
    found.findings += [
        Finding(name, "not the log's", "No task or version of the log has this file.")
        for name in sorted(names - expected)
    ]
    return found


def _is_expected(name: str, public: PublicTasks) -> bool:
    place = parse_place(name)
    # A version that is not ready yet is not missed, and what stands there of it is no stranger's.
    if place is None or (task := public.tasks.get(place.task)) is None:
        return False
    return place.version is None or place.version in task.releases


class _Checker:
    """Of one task."""

    def __init__(self, log: EventLog, store: Store, task: PublicTask, *, names: set[str], found: Compared) -> None:
        self._log, self._store, self._task = log, store, task
        self._names, self._found = names, found
        self._frozen: str | None = None

    def check(self) -> Iterator[Finding]:
        """Every finding about its files."""
        yield from self._check_frozen()
        for version in self._task.find_ready():
            self._found.versions += 1
            yield from self._check_version(version)

    def _check_frozen(self) -> Iterator[Finding]:
        created = self._task.created
        ref = None if created is None else find_frozen(created)
        if ref is None:
            return
        name = Place(self._task.name, None, FROZEN).name
        there = self._store.read(name)
        if there is None:
            yield Finding(name, "missing", "What no version of the task changes.")
            return
        self._frozen = hashlib.sha256(there.data).hexdigest()
        yield from self._prove(name, there.data, ref=ref)

    def _check_version(self, version: Version) -> Iterator[Finding]:
        place = Place(self._task.name, version, CONFIGURATION)
        there = self._store.read(place.name)
        if there is None:
            yield Finding(place.name, "missing", "The version is not archived: `fedlog archive` writes it.")
            return
        said = contents.read_configuration(there.data)
        if said is None:
            yield Finding(place.name, "differs", "It cannot be read.")
            return
        digests = contents.find_digests(said)
        ours = contents.write_configuration(self._task, version, digests=Digests(digests.weights, self._frozen))
        if there.data != ours:
            yield self._compare(place.name, there.data, ours=ours)
        yield from self._check_privacy(version)
        yield from self._check_weights(version, digest=digests.weights)

    def _compare(self, name: str, data: bytes, *, ours: bytes) -> Finding:
        said, should = contents.read_configuration(data), contents.read_configuration(ours)
        assert said is not None
        assert should is not None
        # By name, because a digest would tell nobody where to look.
        differing = [key for key in sorted({*said, *should}) if said.get(key) != should.get(key)]
        if differing == ["evaluations"] and contents.is_ahead(should, said):
            return Finding(name, "behind", "Scores that the log has are not in it yet.")
        return Finding(name, "differs", f"Not as the log says: {', '.join(differing) or 'its form'}.")

    def _check_privacy(self, version: Version) -> Iterator[Finding]:
        name = Place(self._task.name, version, PRIVACY).name
        there = self._store.read(name)
        if there is None:
            yield Finding(name, "missing", "The charges up to this version.")
        elif there.data != contents.write_privacy(self._task, version):
            yield Finding(name, "differs", "Not the charges that the ledger has.")

    def _check_weights(self, version: Version, *, digest: str | None) -> Iterator[Finding]:
        name = Place(self._task.name, version, WEIGHTS).name
        created = self._task.created
        assert created is not None
        kept = is_kept(version, self._task.newest, retention=created.policy.retention, standing=self._task.standing)
        if name not in self._names:
            # Without a digest the log had them no more when the archive came, and says so.
            if kept and digest is not None:
                yield Finding(name, "missing", "The policy's [retention] keeps them.")
            return
        if not kept:
            yield Finding(name, "left over", "The policy keeps them no longer; the next run takes them away.")
        there = self._store.read(name)
        if there is None:
            return
        if digest != hashlib.sha256(there.data).hexdigest():
            yield Finding(name, "differs", f"Its digest is not the one that {CONFIGURATION} names.")
            return
        yield from self._prove(name, there.data, ref=self._task.releases[version].published.model)

    def _prove(self, name: str, data: bytes, *, ref: BodyRef) -> Iterator[Finding]:
        """Compare a vector with the body that was published, whose digest is signed."""
        if len(data) % 4 == 0 and hashlib.sha256(pack(np.frombuffer(data, "<f4"))).digest() == ref.sha256:
            self._found.proven += 1
            return
        # Another release of the compressor packs the same numbers otherwise.
        try:
            body = models.read(self._log, ref, parameters=len(data) // 4, timeout_s=FETCH_S)
        except ModelGone:
            yield Finding(name, "unproven", "The log has the body no more, and packed anew it is another.")
            return
        except BodyError:
            yield Finding(name, "differs", "The published body has another size.")
            return
        if body.astype("<f4").tobytes() == data:
            self._found.proven += 1
        else:
            yield Finding(name, "differs", "Not the numbers that were published.")
