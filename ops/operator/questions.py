"""The policy of a federated evaluation, made from that of the task that is measured; `fedlog measure` calls it.

Bounds and clip are powers of two, so that whole numbers, as counts are, stay whole on the grid.
"""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from actors.deciders.arithmetic.statistics import EXAMPLES, TIMES_EXAMPLES
from ops.operator.errors import ModelMismatch
from schemas.identifiers import TaskId, Version
from schemas.policy import (
    Aggregation,
    Clipping,
    Compression,
    Evaluation,
    Measure,
    Optimizer,
    Policy,
    Privacy,
    Staleness,
    Statistic,
    Stop,
)
from schemas.policy.learning import CLASSIFYING, TOP_METRICS

PLUGIN = "client_agent.learning.measuring.questions:evaluate"
STEPS = 1 << 20
NAME_MAX = 63
# Within one; of others, such as a loss, nobody knows a bound.
SHARES = frozenset({"accuracy", *TOP_METRICS, "f1", "auroc"})
BOUND = 16.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What `fedlog measure` may choose; `metrics` and `devices` are those of the measured task where left out."""

    version: Version
    metrics: Sequence[str] = ()
    devices: int = 0
    data: str = ""
    bounds: Mapping[str, float] = field(default_factory=dict)
    examples_max: int = 1024
    privacy: Privacy | None = None


def make_policy(policy: Policy, of: TaskId, *, question: Question) -> Policy:
    """The policy of the measurement. Raises ModelMismatch where the metrics have to be named."""
    # What the task itself is judged by comes first: the answer stands beside the evaluator's scores.
    metrics = tuple(question.metrics) or policy.evaluation.metrics or _guess_metrics(policy, of)
    statistics = {EXAMPLES: Statistic(bound=float(question.examples_max))}
    for name in metrics:
        bound = question.bounds.get(name, 1.0 if name in SHARES else BOUND)
        statistics[name] = Statistic(bound=bound)
        statistics[name + TIMES_EXAMPLES] = Statistic(bound=bound * question.examples_max)
    devices = question.devices or policy.aggregation.updates_per_round
    # A column that names cohorts is no input of the model here either; who decides on scores is nobody's question.
    scored = Evaluation(
        metrics=() if policy.learner else metrics,
        batch_size=policy.evaluation.batch_size,
        evaluate=policy.evaluation.evaluate,
        cohort=msgspec.UNSET if ":" in (policy.evaluation.cohort or "") else policy.evaluation.cohort,
    )
    return msgspec.structs.replace(
        policy,
        kind="measure",
        data=question.data or policy.data,
        # A learner of its own gives what it gives; the torch learner computes what it is asked for.
        evaluation=scored,
        measure=Measure(plugin=PLUGIN, statistics=statistics, of=of, version=question.version),
        selection=msgspec.structs.replace(policy.selection, concurrency=max(policy.selection.concurrency, devices)),
        aggregation=Aggregation(updates_per_round=devices),
        clipping=Clipping(norm=_round_up(math.sqrt(len(statistics))), steps=STEPS),
        # A few numbers: an integer codec would lose more than it saves.
        compression=Compression(codec="float32", error_feedback=False),
        # One round, whose devices all answer about the same version.
        staleness=Staleness(rule="constant", max_versions=0),
        optimizer=Optimizer(),
        privacy=question.privacy,
        stop=Stop(versions_max=1, idle_s=policy.stop.idle_s),
        shards=msgspec.UNSET,
        # Answers differ because devices do, and nobody uses them as a model.
        rollout=msgspec.UNSET,
        quarantine=msgspec.UNSET,
    )


def choose_name(of: TaskId, version: Version, *, taken: Container[TaskId]) -> TaskId:
    """A free name in the population of the measured task: `rings.measured-v15` for version 15 of `rings`."""
    population, _, task = of.partition(".")
    ending = f"measured-v{version}"
    # Asked a second time it is another task: a policy never changes, and the first answer stays.
    number, name = 1, ""
    while not name or name in taken:
        tail = ending if number == 1 else f"{ending}-{number}"
        head = task[: NAME_MAX - len(tail) - 1]
        name, number = f"{population}.{head}-{tail}" if head else f"{population}.{tail}", number + 1
    return name


def _guess_metrics(policy: Policy, of: TaskId) -> tuple[str, ...]:
    """What the torch learner gives where the policy names no metrics."""
    if policy.learner or policy.evaluation.evaluate:
        raise ModelMismatch(f"The policy of {of!r} names no metrics, and its learner may give any: name them.")
    return ("accuracy", "loss") if policy.training.loss in CLASSIFYING else ("loss",)


def _round_up(value: float) -> float:
    return float(2 ** math.ceil(math.log2(value)))
