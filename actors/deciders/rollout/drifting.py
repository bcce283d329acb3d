"""What drift that a measure task has found means for a rollout, by the gates of its policy that look at drift."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import UNSET

from schemas.events import DriftEvent, DriftFound
from schemas.policy import Gate

_MILLION = 1_000_000


def is_about(gate: Gate, drift: DriftEvent) -> bool:
    """Whether a gate looks at a distance: of its task, by its measure, of its cohort or of any."""
    return (gate.drift_of, gate.metric) == (drift.task, drift.measure) and gate.cohort in ("", drift.cohort)


def name_drift(drift: DriftEvent) -> str:
    """Which of all distances one is."""
    return f"{drift.task}/{drift.kind}/{drift.cohort}/{drift.measure}"


def find_worst(gates: Iterable[Gate], standing: Iterable[DriftFound]) -> DriftFound | None:
    """What stands beyond one of these gates, of several the furthest; None where nothing does."""
    held = [*gates]
    beyond = [drift for drift in standing if any(_is_beyond(gate, drift) for gate in held)]
    # In one order, so that of two that are as bad every replay names the same.
    return max(beyond, key=lambda drift: (drift.value, name_drift(drift)), default=None)


def _is_beyond(gate: Gate, drift: DriftFound) -> bool:
    most = 0 if gate.drift_max is UNSET else round(gate.drift_max * _MILLION)
    return is_about(gate, drift) and drift.value > most
