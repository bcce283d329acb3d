"""The part of the law check that recomputes models from bodies, and looks for what may stand in no topic.

Formulas are written down anew from the design (sections 3 and 7) and from docs/policy.md: mean over K or over the
weights, then the server's step of what trains and the damped mean of what is averaged, in float64, rounded once to
float32. Only the sampler of the noise is the one that is checked; its own tests hold
it, and here it is asked again for each proposal. Without the key the noise cannot be known, but for its size.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from msgspec.structs import replace

from actors.deciders.arithmetic import noise
from schemas.events import ModelPublished, Noticed, RoundProposed, TaskCreated
from schemas.identifiers import BodyRef
from schemas.policy import Policy
from schemas.tensors import unpack
from schemas.topics import CATALOGUE, MODELS, ROUNDS
from streams.log import EventLog, TopicPartition, scan
from tests.judges.logbook import Logbook
from tests.judges.rounds import Totals

TAIL_SIGMAS = 18
NOISE_MIN = 1e-2  # of sigma: four numbers in a row below it are drawn once in 10^8
FLOAT64_LOST = 1e-3
WEIGHT_ONE = 1 << 20


def model_faults(log: EventLog, book: Logbook, sums: Totals) -> Iterator[str]:
    """Every version whose bodies still live: the sum of its members gives the published model and moments."""
    created = {e.fact.task: e.fact for e in book.rounds.events(Noticed) if isinstance(e.fact, TaskCreated)}
    proposed = {(e.task, e.round): e for e in book.rounds.events(RoundProposed)}
    stored = {r.offset: r.value or b"" for r in scan(log, TopicPartition(MODELS.name, book.partition))}
    newest: dict[str, ModelPublished] = {}
    for event in book.rounds.events(ModelPublished):
        before, newest[event.task] = newest.get(event.task), event
        total = sums.get((event.task, event.round))
        if before is None or total is None:
            continue
        task = _at_version(created[event.task], before.version)
        held, carried, model, moments = (
            _vector(stored, ref, size)
            for ref, size in zip(
                (before.model, before.moments, event.model, event.moments),
                (task.parameters, task.trained) * 2,
                strict=True,
            )
        )
        if held is None or model is None or (before.moments is not None and carried is None):
            continue  # tombstoned since
        proposal = proposed[event.task, event.round]
        # What helpers draw is in the sum of their masks.
        is_drawn = task.policy.masked_by.noise != "helpers"
        drawn = _noise(book.noise_key, proposal, parameters=task.parameters) if is_drawn else np.zeros_like(total)
        mean = _mean(task.policy, total if drawn is None else total + drawn, proposal)
        told = _tell(task.policy, mean, proposal)
        rest = mean.size - told.size
        stepped = _released(
            task, held[:rest].astype(np.float64), moments=carried, mean=mean[:rest], members=event.members
        )
        expected = np.concatenate([stepped[0], told]), stepped[1]
        where = f"{ROUNDS.name}: task {event.task}: version {event.version}"
        if drawn is None:
            without = model[:rest], stepped[0]
            yield from (f"{where}: {fault}" for fault in _noise_faults(task.policy, *without))
            continue
        book.models += 1
        if not _is_rounded(model, expected[0]):
            yield f"{where}: the bodies of its members give {expected[0]}, published is {model}"
        if moments is not None and not _is_rounded(moments, expected[1]):
            yield f"{where}: the bodies of its members give the moments {expected[1]}, published is {moments}"


def secret_faults(log: EventLog, partitions: Iterable[int], secrets: Mapping[str, bytes]) -> Iterator[str]:
    """No key, seed or raw training example stands in any topic, as bytes or in hex."""
    for partition in partitions:
        for topic in CATALOGUE:
            records = scan(log, TopicPartition(topic.name, partition))
            held = b"\n".join(part for record in records for part in (record.key or b"", record.value or b""))
            for name, secret in secrets.items():
                if secret in held or secret.hex().encode() in held:
                    yield f"{topic.name}[{partition}] holds {name}"


def _vector(stored: Mapping[int, bytes], ref: BodyRef | None, size: int) -> Any:
    if ref is None or not set(ref.offsets) <= stored.keys():
        return None
    data = b"".join(stored[offset] for offset in ref.offsets)
    for vectors in (1, 2):
        try:
            return unpack(data, "float32", count=vectors * size)
        except ValueError:
            continue
        except Exception:  # noqa: BLE001 - another number of vectors
            continue
    return None


def _mean(policy: Policy, total: Any, proposed: RoundProposed) -> Any:
    by_weight = policy.aggregation.normalisation == "weight"
    whole = proposed.weight_sum if by_weight else proposed.members * (15 if policy.tier == "masked" else WEIGHT_ONE)
    return total.astype(np.float64) / whole * policy.clipping.norm / policy.clipping.steps


def _noise(noise_key: bytes | None, proposed: RoundProposed, *, parameters: int) -> Any:
    """What the mechanism adds; None where that cannot be known."""
    if proposed.mechanism is None:
        return np.zeros(parameters, np.int64)
    return None if noise_key is None else noise.draw(noise_key, proposed, parameters=parameters)


def _released(task: TaskCreated, model: Any, *, moments: Any, mean: Any, members: int) -> tuple[Any, Any]:
    """What a round publishes, not rounded yet: the next model and moments, or what a question asked for."""
    measure, trained = task.policy.measure, task.trained
    if measure is None:
        stepped, carried = _stepped(task.policy, model[:trained], moments=moments, mean=mean[:trained])
        return np.concatenate([stepped, model[trained:] + _damping(task.policy, members) * mean[trained:]]), carried
    bounds = [statistic.bound for statistic in measure.statistics.values() for _ in range(math.prod(statistic.shape))]
    return mean * np.array(bounds) * (members if measure.release == "sum" else 1), None


def _tell(policy: Policy, mean: Any, proposed: RoundProposed) -> Any:
    """What was reported under privacy, behind all else: the mean by weight, in the metrics' own units."""
    names = policy.evaluation.report if policy.privacy is not None else ()
    share = policy.evaluation.report_share or 0.25
    unit = share * policy.clipping.norm / math.sqrt(max(1, len(names)))
    bounds = np.array([(policy.evaluation.report_bounds or {})[name] for name in names], np.float64)
    one = 15 if policy.tier == "masked" else WEIGHT_ONE
    whole = 1 if policy.aggregation.normalisation == "weight" else proposed.members * one / proposed.weight_sum
    return mean[mean.size - len(names) :] * whole * bounds / unit


def _damping(policy: Policy, members: int) -> float:
    """How much of the mean change of what is averaged counts: the less, the staler an update may be."""
    return members / (members + 2 * min(policy.selection.concurrency, policy.staleness.max_versions * members))


def _at_version(task: TaskCreated, version: int) -> TaskCreated:
    """The task with the server's learning rate as it is in the step from this version on, by the platform's libm."""
    plan, optimizer, factor = task.policy.server_schedule, task.policy.optimizer, 1.0
    if plan.rule == "step":
        factor = plan.decay ** (version // plan.step_versions)
    elif plan.rule == "exponential":
        factor = plan.decay**version
    elif plan.rule == "cosine":
        turn = math.pi * min(1.0, version / plan.cosine_versions)
        factor = plan.floor + (1 - plan.floor) * (1 + math.cos(turn)) / 2
    warm = min(1.0, (version + 1) / (plan.warmup_versions + 1))
    scheduled = replace(optimizer, learning_rate=optimizer.learning_rate * warm * factor)
    return replace(task, policy=replace(task.policy, optimizer=scheduled))


def _stepped(policy: Policy, model: Any, *, moments: Any, mean: Any) -> tuple[Any, Any]:
    """The next model and moments, not rounded yet."""
    rule = policy.optimizer
    if rule.rule == "sgd":
        return model + rule.learning_rate * mean, None
    carried = np.zeros(2 * mean.size) if moments is None else moments.astype(np.float64)
    if rule.rule == "momentum":
        velocity = rule.momentum * carried[: mean.size] + mean
        return model + rule.learning_rate * velocity, velocity
    first = rule.beta1 * carried[: mean.size] + (1 - rule.beta1) * mean
    before, square = carried[mean.size :], mean**2
    second = {
        "adam": before + (1 - rule.beta2) * (square - before),
        "adagrad": before + square,
        "yogi": np.where(before > square, before - (1 - rule.beta2) * square, before + (1 - rule.beta2) * square),
    }[rule.rule]
    return model + rule.learning_rate * first / (np.sqrt(second) + rule.tau), np.concatenate([first, second])


def _is_rounded(found: Any, exact: Any) -> bool:
    """Whether float32 `found` is float64 `exact`, rounded: within half a step of float32, and what float64 has lost."""
    step = np.maximum(np.spacing(np.abs(found)), np.spacing(np.abs(exact).astype(np.float32))).astype(np.float64)
    return bool((np.abs(found.astype(np.float64) - exact) <= 0.5 * step * (1 + FLOAT64_LOST)).all())


def _noise_faults(policy: Policy, model: Any, expected: Any) -> Iterator[str]:
    """Without the key: noise that is missing, or far too large."""
    if policy.optimizer.rule in ("adam", "adagrad", "yogi") or policy.privacy is None or policy.measure is not None:
        return  # not linear: its noise cannot be told from its mean
    scale = policy.optimizer.learning_rate / policy.aggregation.updates_per_round * policy.clipping.norm
    if not scale:
        return  # a step of no length shows no noise
    size = np.abs(model - expected).max() / scale / policy.privacy.noise_multiplier
    if not NOISE_MIN < size < TAIL_SIGMAS:
        yield f"its noise is {size:.6f} sigma"
