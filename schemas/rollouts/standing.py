"""What is in production of one task, as a fold of what its rollout announces, and which version a device gets.

Pure and shared: a device, a gateway and a server that have read the same announcements choose alike.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

from schemas.identifiers import BodyRef, Version
from schemas.rollouts.announcements import Announced

# As many bits as a float holds exactly, so that every language finds the same fraction.
_BITS = 53


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """`promoted` is in production, `candidate` on trial with a `share` of the devices in `cohorts` (empty: all).

    `models` has the bodies of both; `ever` all versions that were promoted at some time, `place`
    that of the last announcement.
    """

    promoted: Version | None = None
    candidate: Version | None = None
    share: float = 0.0
    cohorts: frozenset[str] = frozenset()
    models: tuple[tuple[Version, BodyRef], ...] = ()
    ever: frozenset[Version] = frozenset()
    place: tuple[int, int] = (-1, 0)
    promoted_ms: int = 0

    def find_model(self, version: Version) -> BodyRef | None:
        """Where the body of the promoted version, or of the candidate, stands."""
        return dict(self.models).get(version)


def evolve(standing: Standing, said: Announced) -> Standing:
    """The standing after one announcement. Repeats and what came before the last one change nothing."""
    # Whoever may write there can put a copy of an old one behind the last.
    if said.place <= standing.place:
        return standing
    standing = replace(standing, place=said.place)
    match said.action:
        case "canary" if said.version is not None and said.version != standing.promoted:
            standing = replace(standing, candidate=said.version, share=said.share, cohorts=said.cohorts)
            return _keep_models(standing, said.version, model=said.model)
        case "promoted" if said.version is not None:
            return _keep_models(_promote(standing, said.version, at_ms=said.time_ms), said.version, model=said.model)
        case "rolledback":
            # Nothing was promoted before: then nothing is in production again.
            if said.to is None:
                return _keep_models(_end_trial(replace(standing, promoted=None, promoted_ms=said.time_ms)))
            return _keep_models(_promote(standing, said.to, at_ms=said.time_ms), said.to, model=said.model)
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


def _promote(standing: Standing, version: Version, *, at_ms: int) -> Standing:
    ended = _end_trial(standing)
    # A candidate that is rolled back leaves what was promoted where it was, since when it was.
    if version == standing.promoted:
        return ended
    return replace(ended, promoted=version, promoted_ms=at_ms, ever=standing.ever | {version})


def _end_trial(standing: Standing) -> Standing:
    return replace(standing, candidate=None, share=0.0, cohorts=frozenset())


def _keep_models(standing: Standing, version: Version | None = None, *, model: BodyRef | None = None) -> Standing:
    """With the body of a version, and of no version that is neither promoted nor tried any more."""
    known = dict(standing.models) | ({version: model} if version is not None and model is not None else {})
    in_use = {standing.promoted, standing.candidate}
    return replace(standing, models=tuple(sorted((each, ref) for each, ref in known.items() if each in in_use)))
