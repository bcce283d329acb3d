"""What an event says, in a few words for people: the numbers that somebody looks for, and not all that it carries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from string import Formatter
from textwrap import wrap
from typing import Any

from msgspec import UNSET

from actors.deciders.arithmetic.drifting import MILLION
from ops.history.records import Line, format_value
from schemas.canonical import to_plain
from schemas.events import Event
from schemas.events.updates import CLIP_ONE
from schemas.policy import WEIGHT_ONE, WEIGHT_ONE_MASKED

# A part between bars is left out where one of its values is missing or empty; so that each event needs one line here.
_WORDS = {
    "DeploymentFounded": "deployment {deployment}",
    "TaskCreated": "{parameters} parameters|, {updates_per_round} updates a round|, at most {concurrency} at once|"
    ", noise multiplier {noise_multiplier}|, carries on from {parent}|, asked for by {asked_by}",
    "TaskPaused": "no new leases|, asked for by {asked_by}",
    "TaskResumed": "leases again|, asked for by {asked_by}",
    "TaskClosed": "the operator ends it|, asked for by {asked_by}",
    "TaskSucceeded": "{successor} carries on from it|, asked for by {asked_by}",
    "PopulationBudgetSet": "{population}: rho {rho_max} for each device over all tasks|, asked for by {asked_by}",
    "DeviceCheckedIn": "device {device}|, cohort {cohort}|: {samples} examples, battery {battery_percent} %",
    "LeaseAbandoned": "device {device} gives up lease {lease}: {reason}",
    "Tick": "time has passed",
    "LeaseGranted": "lease {lease} to device {device}|, cohort {cohort}|: version {version}, until {deadline}",
    "LeaseClosed": "lease {lease} of device {device}: {outcome}|, in round {round}|, {reason}",
    "EnrolmentRequested": "device {device} asks to be enrolled in {population}",
    "EnrolmentOpened": "{population}: {quota} {device_class} may enrol, opening {number}",
    "EnrolmentClosed": "{population}: no more {device_class} enrol, opening {number}",
    "DeviceEnrolled": "{population}: device {device} is enrolled as {subject}, {device_class}|, in place of {replaces}",
    "DeviceRevoked": "{reason}|, device {device}|, subject {subject}|, in {population}",
    "EnrolmentsDeclined": "{counts}|, in {population}",
    "Enrolled": "device {device} is enrolled",
    "EnrolmentRefused": "device {device} is not enrolled in {population}: {reason}",
    "CheckinsDeclined": "{counts}",
    "Granted": "device {device} may train",
    "Declined": "device {device}: {reason}|, again in {retry_after_ms} ms",
    "Outcome": "update {update} of device {device}: {outcome}",
    "UpdateSubmitted": "update {lease} of device {device}: {samples} examples, {size} bytes",
    "UpdateAdmitted": "round {round}: update {update} of device {device}: version {version}, staleness {staleness}, "
    "weight {weight}|, scaled to {clip_scale}|, counts as zero: {zeroed}",
    "UpdateRefused": "update {update} of device {device}: {reason}",
    "UpdatesDeclined": "{counts}",
    "InputsDropped": "{count} of {topic} without a valid lease or signature, offsets {first_offset} to {last_offset}",
    "RoundOpened": "round {round}",
    "RoundProposed": "round {round}: {members} updates|, noise multiplier {noise_multiplier}",
    "SumStored": "round {round}: sum of {members} updates, sha256 {sum_sha256}",
    "MembersCompared": "round {round}: {apart} of {members} updates stand apart|, of {devices}",
    "DeviceQuarantined": "device {device}|, subject {subject}|: quarantined, {reason} in rounds {rounds}",
    "QuarantineLifted": "device {device}|, subject {subject}|: takes part again, after round {round}"
    "|, asked for by {asked_by}",
    "DriftFound": "version {version}|, cohort {cohort}|: {kind} by {measure}, {value} of at most {bound}"
    "|, since version {since}|, beside version {reference_version} of {reference}",
    "DriftEnded": "version {version}|, cohort {cohort}|: no more {kind} by {measure}, {value} of at most {bound}",
    "ModelPublished": "version {version}| of round {round}: {members} updates|, sha256 {sha256}",
    "RoundAbandoned": "round {round} with {members} updates: {reason}",
    "TaskHalted": "{reason}|, at version {version}",
    "EpochOpened": "epoch {epoch}: updates are sealed to its key from now on",
    "EpochDestroyed": "epoch {epoch}: its key is gone, {reason}",
    "MaskKeyOffered": "epoch {epoch}: helper {helper} has its key",
    "CosignatureHeard": "version {version}: helper {helper} has co-signed its model",
    "MaskKeyOpened": "helper {helper}: key of epoch {epoch}",
    "MaskKeyDestroyed": "helper {helper}: key of epoch {epoch} is gone, {reason}",
    "RoundBound": "round {round}: helper {helper} answers for this proposal and no other",
    "MasksSummed": "round {round}: helper {helper} has summed its masks",
    "MasksRefused": "round {round}: helper {helper} does not answer, {reason}|, updates {updates}",
    "ModelCosigned": "version {version}: helper {helper} co-signs this model and no other, sha256 {model_sha256}",
    "ModelRefused": "version {version}: helper {helper} does not co-sign sha256 {model_sha256}, {reason}",
    "RoundCharged": "round {round}: rho {rho_total}, epsilon {epsilon} at delta {delta}, with all before it"
    "|; of its population's budget {rho_spent} of {rho_max}",
    "RoundWithheld": "round {round}: {reason}",
    "BudgetExhausted": "rho {rho_total} of {rho_max}",
    "VersionEvaluated": "version {version}|, cohort {cohort}|: {metrics}|, on {samples} examples|, by {source}"
    "|, says {evaluator}",
    "RolloutOrdered": "{action}|, version {version}|, order {number}|, asked for by {asked_by}",
    "OrderRefused": "order {number} to {action} changes nothing: {reason}",
    "CandidateStaged": "version {version} is a candidate|, while version {previous} is promoted",
    "CanaryStarted": "version {version} to a share of {share}|, cohorts {cohorts}|, stage {stage}",
    "CanaryGrown": "version {version} to a share of {share}|, cohorts {cohorts}|, stage {stage}",
    "Promoted": "version {version} is the one to use|, after version {previous}",
    "RolledBack": "version {version} is not to be used, {reason}|; back to version {to}",
    "RolloutHalted": "{reason}|, about version {version}",
    "RolloutResumed": "the rollout goes on",
    "DefectFound": "{error}: {count} of {topic} skipped, offsets {first_offset} to {last_offset}",
    "StateDigest": "after {decisions} decisions: {sha256}",
    "WriterClaimed": "{actor}, partition {partition}",
}


# Where the words of a wrapped line go on: under the place, behind the time.
_INDENT = " " * 14


def tell(line: Line, *, columns: int | None = None) -> str:
    """The event on one line: when, where, what; wrapped to so many columns where that is asked for."""
    begin = line.begin()
    words = _WORDS.get(line.name.removeprefix("Noticed "))
    told = None if words is None else _fill(words, _choose(line.values))
    if told is None:
        told = format_value(line.values)
    elif line.task is not None:
        told = f"{format_value(line.task)}: {told}"
    text = f"{begin} {told}".rstrip()
    if columns is None or len(text) <= columns:
        return text
    # Broken by hand, because the columns of the beginning have more than one space between them.
    parts = wrap(told, max(20, columns - len(_INDENT)), break_on_hyphens=False)
    return "\n".join([begin.rstrip(), *(f"{_INDENT}{part}" for part in parts)])


def tell_event(event: Event) -> str:
    """What an event says, without its place."""
    fields = ((name, getattr(event, name)) for name in event.__struct_fields__)
    values = {name: value for name, value in fields if value is not UNSET}
    told = _fill(_WORDS[type(event).__name__], _choose({**to_plain(values)}))
    return format_value(to_plain(values)) if told is None else told


def _fill(words: str, values: Mapping[str, str]) -> str | None:
    """The parts of which every value is there; None where the first, which says the most, is not."""
    parts = [part if _find_names(part) <= values.keys() else None for part in words.split("|")]
    return None if parts[0] is None else "".join(part for part in parts if part).format_map(values)


def _find_names(part: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(part) if name}


def _choose(values: dict[str, Any]) -> dict[str, str]:
    """Each value as text, with those of its parts under their own names; what is missing or empty is left out."""
    found = {**dict(_iterate_parts(values)), **values}
    # What the log counts in units of its own, people read in theirs.
    if isinstance(weight := found.get("weight"), int):
        found["weight"] = weight / (WEIGHT_ONE if found.get("submitted_at") is None else WEIGHT_ONE_MASKED)
    if "by_chance" in found:
        found |= {name: found[name] / MILLION for name in ("value", "bound", "by_chance")}
    if isinstance(scale := found.get("clip_scale"), int):
        found["clip_scale"] = None if scale == CLIP_ONE else f"{scale / CLIP_ONE:.1%}"
    if isinstance(deadline_ms := found.get("deadline_ms"), int):
        found["deadline"] = f"{datetime.fromtimestamp(deadline_ms / 1000, UTC):%H:%M:%S}"
    # Events number stages by their place in the policy; people count from 1, also in what a standing says above them.
    if isinstance(stage := found.get("stage"), int):
        found["stage"] = stage + 1
    # Of whom there is most to look at: the devices, and not their scores.
    if isinstance(apart := found.get("anomalies"), list):
        found |= {"apart": len(apart), "devices": [one.get("device") for one in apart] or None}
    for name in ("counts", "metrics"):
        if isinstance(inner := found.get(name), dict):
            found[name] = ", ".join(f"{format_value(key)} {format_value(each)}" for key, each in inner.items())
    return {name: format_value(value, nested=True) for name, value in found.items() if value not in (None, "", [])}


def _iterate_parts(values: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    # The first of two parts with a value of the same name wins: a version's model comes before its moments.
    for inner in reversed(values.values()):
        if isinstance(inner, dict):
            yield from _iterate_parts(inner)
            yield from inner.items()
