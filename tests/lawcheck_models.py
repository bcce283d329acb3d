"""The part of the law check that recomputes models from bodies, and looks for what may stand in no topic.

Formulas are written down anew from the design (sections 3 and 7): mean over K or over the weights, then the server's
step in float64. With privacy the noise itself cannot be known from the log; its size can.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from schemas.events import ModelPublished, Noticed, RoundProposed, TaskCreated
from schemas.identifiers import BodyRef
from schemas.policy import Policy
from schemas.tensors import unpack
from schemas.topics import CATALOGUE, MODELS, ROUNDS
from streams.log import EventLog, TopicPartition, scan
from tests.lawcheck_rounds import Totals
from tests.logbook import Logbook

TAIL_SIGMAS = 18
WEIGHT_ONE = 1 << 20


def model_faults(log: EventLog, book: Logbook, sums: Totals) -> Iterator[str]:
    """Every version whose bodies still live: the sum of its members gives the published model."""
    created = {e.fact.task: e.fact for e in book.rounds.events(Noticed) if isinstance(e.fact, TaskCreated)}
    proposed = {(e.task, e.round): e for e in book.rounds.events(RoundProposed)}
    stored = {r.offset: r.value or b"" for r in scan(log, TopicPartition(MODELS.name, book.partition))}
    newest: dict[str, ModelPublished] = {}
    for event in book.rounds.events(ModelPublished):
        before, newest[event.task] = newest.get(event.task), event
        total = sums.get((event.task, event.round))
        if before is None or total is None:
            continue
        task = created[event.task]
        bodies = [_vector(stored, ref, task.parameters) for ref in (before.model, before.moments, event.model)]
        if bodies[0] is None or bodies[2] is None or (before.moments is not None and bodies[1] is None):
            continue  # tombstoned since
        mean = _mean(task.policy, total, proposed[event.task, event.round])
        expected = _stepped(task.policy, bodies[0].astype(np.float64), moments=bodies[1], mean=mean)
        where = f"{ROUNDS.name}: task {event.task}: version {event.version}"
        yield from (f"{where}: {fault}" for fault in _model_faults(task.policy, bodies[2], expected=expected))


def secret_faults(log: EventLog, partitions: Iterable[int], secrets: Mapping[str, bytes]) -> Iterator[str]:
    """No key, seed or raw training example stands in any topic, as bytes or in hex."""
    for partition in partitions:
        for topic in CATALOGUE:
            records = scan(log, TopicPartition(topic.name, partition))
            held = b"\n".join(part for record in records for part in (record.key or b"", record.value or b""))
            for name, secret in secrets.items():
                if secret in held or secret.hex().encode() in held:
                    yield f"{topic.name}[{partition}] holds {name}"


def _vector(stored: Mapping[int, bytes], ref: BodyRef | None, parameters: int) -> Any:
    if ref is None or not set(ref.offsets) <= stored.keys():
        return None
    data = b"".join(stored[offset] for offset in ref.offsets)
    for vectors in (1, 2):
        try:
            return unpack(data, "float32", count=vectors * parameters)
        except ValueError:
            continue
        except Exception:  # noqa: BLE001 - another number of vectors
            continue
    return None


def _mean(policy: Policy, total: Any, proposed: RoundProposed) -> Any:
    by_weight = policy.aggregation.normalisation == "weight"
    whole = proposed.weight_sum if by_weight else policy.aggregation.updates_per_round * WEIGHT_ONE
    return total.astype(np.float64) / whole * policy.clipping.norm / policy.clipping.steps


def _stepped(policy: Policy, model: Any, *, moments: Any, mean: Any) -> Any:
    rule = policy.optimizer
    if rule.rule == "sgd":
        return model + rule.learning_rate * mean
    carried = np.zeros(2 * mean.size) if moments is None else moments.astype(np.float64)
    if rule.rule == "momentum":
        return model + rule.learning_rate * (rule.momentum * carried[: mean.size] + mean)
    first = rule.beta1 * carried[: mean.size] + (1 - rule.beta1) * mean
    second = rule.beta2 * carried[mean.size :] + (1 - rule.beta2) * mean**2
    return model + rule.learning_rate * first / (np.sqrt(second) + rule.tau)


def _model_faults(policy: Policy, model: Any, *, expected: Any) -> Iterator[str]:
    if policy.privacy is None:
        if not np.allclose(model, expected, rtol=1e-5, atol=1e-6):
            yield f"the bodies of its members give {expected}, published is {model}"
        return
    if policy.optimizer.rule == "adam":
        return  # not linear: its noise cannot be told from its mean
    scale = policy.optimizer.learning_rate / policy.aggregation.updates_per_round * policy.clipping.norm
    noise = np.abs(model - expected).max() / scale / policy.privacy.noise_multiplier
    if not 1e-4 < noise < TAIL_SIGMAS:
        yield f"its noise is {noise:.6f} sigma"
