"""What a table [rollout] must and must not say; called by `checks`."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from itertools import pairwise

import msgspec

from schemas.identifiers import TASK_PATTERN, Cohort
from schemas.policy.releasing.rollout import Gate, Rollout, Stage
from schemas.policy.sections import Policy

# A decision names every score that it rests on, and has to fit into one record of the journal.
STAGES_MAX = 16
GATES_MAX = 32
HOLD_MAX_S = 365 * 86_400
DRIFT_MAX = 1e3
DRIFT_MEASURES = ("psi", "ks")
_BOUNDS = ("at_least", "at_most", "drop_max", "gap_max")


def find_rollout_problems(policy: Policy) -> Iterator[str]:
    """Each contradiction of a table [rollout], one line for each."""
    rollout = policy.rollout
    if rollout is msgspec.UNSET:
        return
    if policy.measure is not None:
        yield "rollout: what is measured is nothing that devices use; leave the table out"
    for name, given, most in (("stages", rollout.stages, STAGES_MAX), ("gates", rollout.gates, GATES_MAX)):
        if len(given) > most:
            yield f"rollout.{name}: {len(given)} of them, and at most {most} may be"
    for number, stage in enumerate(rollout.stages):
        where = f"rollout.stages[{number}]"
        # In this form of the comparison NaN fails too.
        if not 0 < stage.share <= 1:
            yield f"{where}.share = {stage.share}: must be above 0 and at most 1"
        if not 0 <= stage.hold_s <= HOLD_MAX_S:
            yield f"{where}.hold_s = {stage.hold_s}: must be from 0 to {HOLD_MAX_S}"
        yield from (f"{where}.cohorts: {cohort!r} is no name of a cohort" for cohort in stage.cohorts if not cohort)
    for number, gate in enumerate(rollout.gates):
        yield from _find_gate_problems(gate, f"rollout.gates[{number}]")
    yield from _find_bad_names(rollout)


def find_unscored_cohorts(policy: Policy) -> Iterator[str]:
    """A line where a rollout asks for scores by cohort, and evaluators are not told how to tell cohorts apart."""
    rollout = policy.rollout
    if rollout is msgspec.UNSET or policy.evaluation.cohort:
        return
    advice = "evaluation.cohort names no column or plugin by which evaluators would tell cohorts apart: set it"
    if named := rollout.list_cohorts():
        yield f"rollout: asks for scores of {', '.join(named)}, and {advice}, or name no cohorts"
    for number, gate in enumerate(rollout.gates):
        if gate.gap_max is not msgspec.UNSET:
            yield f"rollout.gates[{number}].gap_max: compares cohorts, and {advice}, or leave the gate out"


def find_shrinking_stages(policy: Policy) -> Iterator[str]:
    """Whoever has a candidate keeps it in the next stage: taken back step by step it would be no rollout."""
    rollout = policy.rollout
    if rollout is msgspec.UNSET:
        return
    for number, (before, stage) in enumerate(pairwise(rollout.stages), 1):
        where = f"rollout.stages[{number}]"
        if stage.share < before.share:
            yield (
                f"{where}.share = {stage.share}: is below the {before.share} of the stage before, and shares only "
                "grow; order the stages by their shares"
            )
        if lost := _list_lost(before, stage):
            yield (
                f"{where}.cohorts: {', '.join(lost)} had the stage before, and would lose what they have; name them "
                "here too, or leave the list out for all"
            )


def _list_lost(before: Stage, stage: Stage) -> list[str]:
    # No name is all cohorts.
    if not stage.cohorts:
        return []
    return sorted({*before.cohorts} - {*stage.cohorts}) if before.cohorts else ["some of all cohorts"]


def _find_gate_problems(gate: Gate, where: str) -> Iterator[str]:
    if gate.is_drift or gate.drift_max is not msgspec.UNSET:
        yield from _find_drift_gate_problems(gate, where)
        return
    said = {name: getattr(gate, name) for name in _BOUNDS if getattr(gate, name) is not msgspec.UNSET}
    if not gate.metric:
        yield f"{where}.metric: name the metric that it looks at"
    if not said:
        yield f"{where}: holds nothing back; say at_least, at_most, drop_max, gap_max, or drift_of and drift_max"
    for name, value in said.items():
        if not math.isfinite(value):
            yield f"{where}.{name} = {value}: must be a finite number"
        elif name in ("drop_max", "gap_max") and value < 0:
            yield f"{where}.{name} = {value}: must be 0 or more"
    if "gap_max" in said and gate.cohort:
        yield f"{where}.gap_max: looks at all cohorts; leave cohort = {gate.cohort!r} out"


def _find_drift_gate_problems(gate: Gate, where: str) -> Iterator[str]:
    of, most = gate.drift_of, gate.drift_max
    if of is msgspec.UNSET or not re.fullmatch(TASK_PATTERN, of):
        yield f"{where}.drift_of: name the measure task whose drift it looks at"
    # In this form of the comparison NaN fails too.
    if most is msgspec.UNSET or not 0 <= most <= DRIFT_MAX:
        yield f"{where}.drift_max: say how much drift may stand, from 0 to {DRIFT_MAX:g}"
    if gate.metric not in DRIFT_MEASURES:
        yield f"{where}.metric = {gate.metric!r:.80}: drift is measured as {' or '.join(DRIFT_MEASURES)}"
    for name in (name for name in _BOUNDS if getattr(gate, name) is not msgspec.UNSET):
        yield f"{where}.{name}: is of scores, and the gate looks at drift; make it another gate"


def _find_bad_names(rollout: Rollout) -> Iterator[str]:
    for cohort in sorted({*rollout.list_cohorts(), *(gate.cohort for gate in rollout.drift_gates)} - {""}):
        try:
            msgspec.convert(cohort, Cohort)
        except msgspec.ValidationError:
            yield f"rollout: {cohort!r} is no name of a cohort: letters, digits, dot, - and _, at most 32"
