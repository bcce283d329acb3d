"""Reads a policy file, and refuses what is out of bounds or contradicts itself, one line for each problem."""

from __future__ import annotations

import math
import sys
import tomllib
from collections.abc import Iterator, Sequence
from functools import reduce
from typing import Any

import msgspec

from schemas.errors import EXIT_USAGE, FedlogError
from schemas.identifiers import PARTITIONS_MAX
from schemas.policy.guarding.drift import find_drift_problems
from schemas.policy.guarding.quarantine import find_quarantine_problems
from schemas.policy.learning_checks import find_learning_problems
from schemas.policy.measuring import find_measure_problems
from schemas.policy.misfits import list_misfits
from schemas.policy.presets import expand_preset
from schemas.policy.releasing.rollout_checks import (
    find_rollout_problems,
    find_shrinking_stages,
    find_unscored_cohorts,
)
from schemas.policy.robustness import find_robust_problems
from schemas.policy.sections import NOISE_TAIL_SIGMAS, Policy
from schemas.policy.tiers.masking import find_masking_problems

_FLOAT_MAX = sys.float_info.max

_SCHEDULE: dict[str, tuple[float, float]] = {
    "warmup_versions": (0, 1_000_000),
    "step_versions": (1, 1_000_000),
    "decay": (1e-9, 1),
    "cosine_versions": (1, 10_000_000),
    "floor": (0, 1),
}
BOUNDS: dict[str, tuple[float, float]] = {
    "training.epochs": (1, 1000),
    "training.batch_size": (1, 65_536),
    "training.learning_rate": (1e-9, 1e3),
    "training.momentum": (0, 0.9999),
    "training.proximal_mu": (0, 1e3),
    "training.steps": (0, 1_000_000),
    "training.classes_min": (1, 1_000_000),
    "training.weight_decay": (0, 1e3),
    "training.gradient_norm": (0, 1e9),
    **dict.fromkeys(("seeds.model", "seeds.split", "seeds.training", "seeds.habits"), (0, (1 << 32) - 1)),
    **{f"{table}.{field}": bounds for table in ("schedule", "server_schedule") for field, bounds in _SCHEDULE.items()},
    "parameters.averaged_scale": (1e-9, 1e9),
    "evaluation.batch_size": (1, 1_000_000),
    "evaluation.quorum": (1, 255),
    "evaluation.disagreement_max": (0, 1e9),
    "evaluation.drop_max": (0, 1e9),
    "evaluation.report_share": (0.001, 0.9),
    "measure.version": (-1, 10_000_000),
    "compression.topk_fraction": (1e-6, 1),
    "clipping.norm": (1e-9, 1e9),
    "clipping.steps": (16, 1 << 20),
    "selection.devices_expected": (1, 100_000_000),
    "selection.concurrency": (1, 10_000_000),
    "selection.lease_s": (1, 14 * 86_400),
    "selection.battery_min_percent": (0, 100),
    "selection.samples_min": (0, 1_000_000_000),
    "selection.participations_max": (0, 1_000_000),
    "selection.exploration": (0, 1),
    "selection.fast_s": (0, 14 * 86_400),
    "selection.retry_after_s": (0.05, 86_400),
    "aggregation.updates_per_round": (1, 1_000_000),
    "aggregation.samples_max": (0, 1 << 20),
    "aggregation.round_s": (0, 30 * 86_400),
    "aggregation.updates_min": (1, 1_000_000),
    "robust.attackers_max": (0, 500),
    "robust.selected": (1, 1000),
    "robust.radius": (1e-4, 1),
    "robust.iterations": (1, 100),
    "quarantine.rounds": (0, 32),
    "quarantine.window": (1, 32),
    "quarantine.z_min": (1, 1000),
    "drift.version": (-1, 10_000_000),
    **dict.fromkeys(("drift.psi_max", "drift.skew_psi_max"), (0, 1e3)),
    **dict.fromkeys(("drift.ks_max", "drift.skew_ks_max"), (0, 1)),
    "sealed.epoch_versions": (1, 1_000_000),
    "sealed.kept_s": (0, 365 * 86_400),
    "masked.epoch_versions": (1, 1_000_000),
    "masked.effective_min": (0, 1_000_000),
    "staleness.exponent": (0, 16),
    "staleness.hinge_a": (0, 1e6),
    "staleness.hinge_b": (0, 10_000),
    "staleness.threshold": (0, 10_000),
    "staleness.max_versions": (0, 10_000),
    "optimizer.learning_rate": (1e-9, 1e6),
    "optimizer.momentum": (0, 0.9999),
    "optimizer.beta1": (0, 0.9999),
    "optimizer.beta2": (0, 0.999999),
    "optimizer.tau": (1e-12, 1e3),
    "privacy.noise_multiplier": (1e-3, 1e4),
    "privacy.rho_max": (1e-9, 1e6),
    # A draw is 2^-107 away from what is charged: a smaller delta would promise more than that.
    "privacy.delta": (2.0**-40, 0.1),
    "stop.versions_max": (1, 10_000_000),
    "stop.target_value": (-_FLOAT_MAX, _FLOAT_MAX),
    "stop.idle_s": (1, 30 * 86_400),
    "rollout.samples_min": (0, 1_000_000_000),
    "rollout.patience_s": (0, 365 * 86_400),
    "rollout.every": (1, 1_000_000),
    "retention.body_hours": (1, 100_000),
    "retention.models_kept": (2, 1_000_000),
    "retention.milestone_every": (0, 1_000_000),
}


class PolicyError(FedlogError):
    """The policy cannot hold; the message has one line for each field that is wrong."""

    exit_code = EXIT_USAGE
    code = "policy_invalid"


def parse(file: str | bytes, *, changes: Sequence[str] = ()) -> Policy:
    """Read what a policy file holds. Raises PolicyError that names field, value and bound, one line for each problem.

    `changes`: other values, each as `table.field=value`; what is no TOML value is taken for a text.
    """
    text = file if isinstance(file, str) else _decode(file)
    try:
        found = _expand(apply_changes(tomllib.loads(text), changes))
    except tomllib.TOMLDecodeError as error:
        raise PolicyError(f"the policy is not TOML: {error}") from error
    try:
        policy = check_policy(msgspec.convert(found, Policy))
    except msgspec.ValidationError as error:
        # The converter ends at the first field, and people would find the others one run at a time.
        problems = list_misfits(found, text) or [str(error)]
        raise PolicyError("\n".join([*problems, "docs/policy.md has every field."])) from error
    # Of files alone: no contradiction, tasks of older releases may have them, and yet mistakes.
    if mistakes := [*find_shrinking_stages(policy), *find_unscored_cohorts(policy)]:
        raise PolicyError("\n".join(mistakes))
    return policy


def _decode(data: bytes) -> str:
    try:
        # Some editors begin a file with a mark of its encoding.
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, byte = data.count(b"\n", 0, error.start) + 1, data[error.start]
        raise PolicyError(
            f"the policy is not UTF-8: byte 0x{byte:02x} in line {line}; save the file as UTF-8"
        ) from error


def _expand(found: dict[str, Any]) -> dict[str, Any]:
    try:
        return expand_preset(found)
    except ValueError as error:
        raise PolicyError(str(error)) from error


def apply_changes(found: dict[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """The content of a policy file with other values for some fields. Raises PolicyError."""
    for change in changes:
        path, equals, text = change.partition("=")
        *tables, name = path.strip().split(".")
        if not equals or not name:
            raise PolicyError(f"{change!r} must be FIELD=VALUE, for instance training.epochs=2")
        table = found
        for part in tables:
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                raise PolicyError(f"{change!r}: {part} is no table")
        table[name] = _parse_value(text.strip())
    return found


def _parse_value(text: str) -> Any:
    # A shell takes the quotes of a text away, so a text without them is one too.
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def check_policy(policy: Policy) -> Policy:
    """The policy with its numbers in canonical form. Raises PolicyError where it is out of bounds or contradictory."""
    # Contradictions are only looked for within the bounds: beyond them their arithmetic may fail itself.
    problems = [*_find_out_of_bounds(policy)] or [
        *_find_contradictions(policy),
        *find_measure_problems(policy),
        *find_robust_problems(policy),
        *find_quarantine_problems(policy),
        *find_drift_problems(policy),
        *_find_sealing_problems(policy),
        *find_masking_problems(policy),
        *find_rollout_problems(policy),
        *_find_privacy_problems(policy),
    ]
    if problems:
        raise PolicyError("\n".join(problems))
    # A whole number in a float's place becomes a float, as the canonical bytes have it.
    return msgspec.convert(msgspec.to_builtins(policy), Policy)


def _find_out_of_bounds(policy: Policy) -> Iterator[str]:
    for path, (low, high) in BOUNDS.items():
        # An optional table that is left out has no values to check.
        if getattr(policy, path.split(".")[0]) in (None, msgspec.UNSET):
            continue
        value: Any = reduce(getattr, path.split("."), policy)
        # In this form of the comparison NaN fails too.
        if value is not msgspec.UNSET and not low <= value <= high:
            yield f"{path} = {value}: must be from {_format_number(low)} to {_format_number(high)}"
    if not 1 <= policy.shard_count <= PARTITIONS_MAX:
        yield f"shards = {policy.shard_count}: must be from 1 to {PARTITIONS_MAX}"
    for cohort, share in policy.selection.cohort_shares.items():
        if not 0 < share <= 1:
            yield f"selection.cohort_shares.{cohort} = {share}: must be above 0 and at most 1"
    yield from find_learning_problems(policy)


def _format_number(value: float) -> str:
    """For people: whole numbers in full, as far as a float tells them apart."""
    return str(int(value)) if abs(value) < 2**53 and value == int(value) else f"{value:g}"


def _find_contradictions(policy: Policy) -> Iterator[str]:
    k, expected = policy.aggregation.updates_per_round, policy.selection.devices_expected
    if k > expected:
        yield (
            f"aggregation.updates_per_round = {k}: a device is at most once in a round, so at most "
            f"selection.devices_expected = {expected}"
        )
    if policy.selection.concurrency < k and policy.staleness.max_versions == 0:
        yield f"selection.concurrency = {policy.selection.concurrency}: a synchronous round needs at least K = {k}"
    yield from _find_selection_problems(policy)
    if policy.aggregation.updates_min > k:
        yield f"aggregation.updates_min = {policy.aggregation.updates_min}: a round has at most K = {k} updates"
    if policy.aggregation.samples_max and policy.aggregation.normalisation == "count":
        yield "aggregation.normalisation = 'count': weights by samples (samples_max > 0) need 'weight'"
    if policy.stop.target_metric == "" and policy.stop.target_value != 0:
        yield f"stop.target_value = {_format_number(policy.stop.target_value)}: needs stop.target_metric"
    if policy.retention.body_hours * 3600 <= policy.selection.lease_s:
        yield (
            f"retention.body_hours = {_format_number(policy.retention.body_hours)}: a body must outlive its lease "
            f"(selection.lease_s = {_format_number(policy.selection.lease_s)})"
        )
    # A lease names its model by version, and a deleted model would end the device's work without a reason.
    if policy.retention.models_kept <= policy.staleness.max_versions:
        yield (
            f"retention.models_kept = {policy.retention.models_kept}: devices may still train on the last "
            f"staleness.max_versions = {policy.staleness.max_versions}; keep more models than that"
        )
    # The worst case: every update at the clip with the largest weight, and noise at its furthest draw.
    largest = k * policy.weight_max * policy.clipping.steps + NOISE_TAIL_SIGMAS * policy.sigma
    if largest >= 1 << 63:
        yield (
            f"clipping.steps = {policy.clipping.steps}: {k} updates could sum up to 2^{math.log2(largest):.1f}, which "
            "must stay below 2^63; take fewer steps, a smaller K or a smaller samples_max"
        )


def _find_selection_problems(policy: Policy) -> Iterator[str]:
    wanted, needed = policy.selection, policy.stop.versions_max * policy.aggregation.members_min
    if 0 < wanted.participations_max * wanted.devices_expected < needed:
        yield (
            f"selection.participations_max = {wanted.participations_max}: {wanted.devices_expected} devices take part "
            f"at most {wanted.participations_max * wanted.devices_expected} times, and stop.versions_max = "
            f"{policy.stop.versions_max} needs {needed}"
        )
    if wanted.rule != "utility":
        return
    if policy.privacy is not None:
        yield (
            "selection.rule = 'utility': looks at losses and times of single devices, which are in no noise, so not "
            "with privacy; take 'uniform'"
        )
        return
    if policy.staleness.max_versions:
        yield (
            "selection.rule = 'utility': is of synchronous rounds (staleness.max_versions = 0); in others the order of "
            "arrival decides"
        )
    if "loss" not in policy.evaluation.report:
        yield "selection.rule = 'utility': needs evaluation.report = [\"loss\"], by which it tells who is useful"


def _find_sealing_problems(policy: Policy) -> Iterator[str]:
    if not policy.is_sealed:
        if policy.sealed is not msgspec.UNSET:
            yield f"sealed: tier = {policy.tier!r} has no keys; take tier = 'sealed', or leave the table out"
        return
    # A seal hides nothing that the model then publishes.
    if policy.aggregation.members_min < 2:
        yield (
            "tier = 'sealed': a round may have one update, and its version is then that update; take "
            "aggregation.updates_per_round (with round_s also updates_min) of 2 or more"
        )
    if policy.selection.rule == "utility":
        yield "selection.rule = 'utility': writes the losses of single devices into journals; take 'uniform'"


def _find_privacy_problems(policy: Policy) -> Iterator[str]:
    if policy.privacy is None:
        return
    cap = policy.participations_cap or 0
    needed = policy.stop.versions_max * policy.aggregation.updates_per_round
    if policy.aggregation.rule != "mean":
        yield (
            f"aggregation.rule = {policy.aggregation.rule!r}: a rule that compares updates with each other has no "
            "bounded sensitivity, so it cannot be combined with privacy; take 'mean'"
        )
    if policy.aggregation.samples_max:
        yield (
            f"aggregation.samples_max = {policy.aggregation.samples_max}: with privacy the weight may depend on "
            "staleness only; take 0"
        )
    if policy.aggregation.round_s:
        yield (
            f"aggregation.round_s = {_format_number(policy.aggregation.round_s)}: with privacy a round ends by count "
            "alone, or how many and who are in it would depend on how long their data take; take 0"
        )
    if policy.aggregation.normalisation == "weight":
        yield "aggregation.normalisation = 'weight': with privacy the mean is over the count; take 'count'"
    if cap < 1:
        yield (
            f"privacy.rho_max = {_format_number(policy.privacy.rho_max)}: allows no participation at all "
            f"(one costs 1/(2 z^2) = {_format_number(1 / (2 * policy.privacy.noise_multiplier**2))})"
        )
    elif needed > cap * policy.selection.devices_expected:
        yield (
            f"stop.versions_max = {policy.stop.versions_max}: needs {needed} participations, and "
            f"{policy.selection.devices_expected} devices with at most {cap} each have "
            f"{cap * policy.selection.devices_expected}"
        )
