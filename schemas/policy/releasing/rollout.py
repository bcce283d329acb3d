"""The table [rollout]: by which stages a version comes to everybody, and which scores it needs on the way."""

from __future__ import annotations

from msgspec import UNSET, UnsetType

from schemas.policy.section import Section


class Stage(Section):
    """A share of the devices of these cohorts, of all where none is named, has the candidate for at least `hold_s`."""

    share: float
    cohorts: tuple[str, ...] = ()
    hold_s: float = 0.0


class Gate(Section):
    """What the final scores of a version must say of one metric, for a cohort or for all devices together.

    `at_least`, `at_most`: bounds of the score. `drop_max`: by how much it may be below that of the promoted version.
    `gap_max`: how far the scores of two cohorts may be apart. Or what drift that the measure task `drift_of` has found
    may say: `metric` is then psi or ks, and while more than `drift_max` stands, of `cohort` or any, nothing goes on.
    """

    metric: str
    cohort: str = ""
    at_least: float | UnsetType = UNSET
    at_most: float | UnsetType = UNSET
    drop_max: float | UnsetType = UNSET
    gap_max: float | UnsetType = UNSET
    drift_of: str | UnsetType = UNSET
    drift_max: float | UnsetType = UNSET

    @property
    def is_drift(self) -> bool:
        """Whether it looks at what a measure task has found, and at no score."""
        return self.drift_of is not UNSET


class Rollout(Section):
    """How versions are released.

    `samples_min`: examples behind each score. `patience_s`: how long a candidate may lack one. `every`: each n-th
    version is a candidate. `needs_approval`: the operator has the last word before a promotion.
    """

    # Arrays of tables, so that a policy reads in the order in which a version goes through it.
    stages: tuple[Stage, ...] = ()
    gates: tuple[Gate, ...] = ()
    samples_min: int = 1
    patience_s: float = 3600.0
    every: int = 1
    needs_approval: bool = False

    @property
    def scored_gates(self) -> tuple[Gate, ...]:
        """Those that look at scores."""
        return tuple(gate for gate in self.gates if not gate.is_drift)

    @property
    def drift_gates(self) -> tuple[Gate, ...]:
        """Those that look at drift."""
        return tuple(gate for gate in self.gates if gate.is_drift)

    def list_cohorts(self) -> list[str]:
        """The cohorts that it names, which a candidate needs scores of."""
        # Gates and stages alike: devices of a cohort must not get what nobody has scored for them.
        staged = (cohort for stage in self.stages for cohort in stage.cohorts)
        gated = (gate.cohort for gate in self.gates if not gate.is_drift)
        return sorted({*staged, *gated} - {""})
