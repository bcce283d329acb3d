"""What is in production of one task, as a fold of what its rollout announces, and which version a device gets.

Pure and shared: a device, a gateway and a server that have read the same announcements choose alike.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

from schemas.announcements.forms import CanaryStaged, VersionPromoted, VersionRolledBack
from schemas.announcements.reading import Announcement, read_announcement
from schemas.canonical import MalformedError
from schemas.certificates import Trust
from schemas.identifiers import BodyRef, TaskId, Version
from schemas.topics import partition_of

# As many bits as a float holds exactly, so that every language finds the same fraction.
_BITS = 53


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """`promoted` is in production, `candidate` on trial with a `share` of the devices in `cohorts` (empty: all).

    `models` has the bodies of both, `ever` all versions that were promoted at some time, `promotion` and `trial` the
    signed records that say so. `seq` and `ids`: the batch of the last announcements, and which these were.
    """

    promoted: Version | None = None
    candidate: Version | None = None
    share: float = 0.0
    cohorts: frozenset[str] = frozenset()
    models: tuple[tuple[Version, BodyRef], ...] = ()
    ever: frozenset[Version] = frozenset()
    seq: int = -1
    ids: frozenset[str] = frozenset()
    promoted_ms: int = 0
    promotion: str = ""
    trial: str = ""

    @property
    def records(self) -> tuple[str, ...]:
        """The signed records that it rests on, in their order: whoever folds them anew stands at the same."""
        return tuple(record for record in (self.promotion, self.trial) if record)

    def find_model(self, version: Version) -> BodyRef | None:
        """Where the body of the promoted version, or of the candidate, stands."""
        return dict(self.models).get(version)


NOTHING = Standing()


def evolve(standing: Standing, said: Announcement) -> Standing:
    """The standing after one announcement. Repeats and what came before the last one change nothing."""
    # Whoever may write there can put a copy of an old one behind the last, also of one of the same batch.
    if said.seq < standing.seq or (said.seq == standing.seq and said.id in standing.ids):
        return standing
    ids = standing.ids | {said.id} if said.seq == standing.seq else frozenset({said.id})
    standing = replace(standing, seq=said.seq, ids=ids)
    match said.data:
        case CanaryStaged(version=version, share=share, cohorts=cohorts) if version != standing.promoted:
            trial = said.record.decode()
            standing = replace(standing, candidate=version, share=share, cohorts=frozenset(cohorts), trial=trial)
            return _keep_models(standing, version, model=said.body)
        case VersionPromoted() | VersionRolledBack():
            return _keep_models(_promote(standing, said.version, said=said), said.version, model=said.body)
    # A halt leaves every device what it has: the rollout decides nothing more until somebody resumes it.
    return standing


def choose(task: str, device: str, *, cohort: str, standing: Standing) -> Version | None:
    """The version that a device should run: the candidate where it is in its canary, else what is promoted.

    None where nothing is promoted.
    """
    candidate = standing.candidate
    if candidate is None or (standing.cohorts and cohort not in standing.cohorts):
        return standing.promoted
    return candidate if draw_place(task, candidate, device=device) < standing.share else standing.promoted


def draw_place(task: str, version: Version, *, device: str) -> float:
    """Where a device stands in the canaries of a version, in [0, 1): whoever is in one is in each that is larger."""
    # By version, so that it is not always the same devices that try what is new.
    digest = hashlib.sha256(f"{task}/{version}/{device}".encode()).digest()
    # Exact: a fraction that was rounded up to 1 would keep a device out of the share that is all.
    return float((int.from_bytes(digest[:8]) >> (64 - _BITS)) / (1 << _BITS))


def _promote(standing: Standing, version: Version | None, *, said: Announcement) -> Standing:
    ended = replace(standing, candidate=None, share=0.0, cohorts=frozenset(), trial="", promotion=said.record.decode())
    # A candidate that is rolled back leaves what was promoted where it was, since when it was.
    if version == standing.promoted:
        return ended
    ever = standing.ever if version is None else standing.ever | {version}
    return replace(ended, promoted=version, promoted_ms=said.time_ms, ever=ever)


def _keep_models(standing: Standing, version: Version | None = None, *, model: BodyRef | None = None) -> Standing:
    """With the body of a version, and of no version that is neither promoted nor tried any more."""
    # Two at most: whoever serves many tasks holds what is in use, and no history.
    known = dict(standing.models) | ({version: model} if version is not None and model is not None else {})
    in_use = {standing.promoted, standing.candidate}
    return replace(standing, models=tuple(sorted((each, ref) for each, ref in known.items() if each in in_use)))


class Standings:
    """Of every task, for whoever follows `published`. One thread hands records in, and any other asks."""

    def __init__(self, trust: Trust | None, *, partitions: int) -> None:
        self._trust, self._partitions = trust, partitions
        self._found: dict[TaskId, Standing] = {}

    def take(self, data: bytes, *, partition: int, at_ms: int) -> TaskId | None:
        """Take a record of one partition; the task that it is about, where it is a rollout's word."""
        # A topic is full of versions, and the signature of each takes longer than all else here.
        if b"io.fedlog.rollout." not in data:
            return None
        try:
            said = read_announcement(data, self._trust, partition=partition, at_ms=at_ms)
        except MalformedError:
            # Whoever may write there can end nobody who reads it.
            return None
        # A task lives in one partition: a copy elsewhere may come before what it is older than.
        if said is None or partition != partition_of(said.data.task, self._partitions):
            return None
        self._found[said.data.task] = evolve(self.find(said.data.task), said)
        return said.data.task

    def find(self, task: TaskId) -> Standing:
        """What is in production of a task; nothing, where nobody has said anything."""
        return self._found.get(task, NOTHING)
