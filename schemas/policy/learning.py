"""The tables of a policy that say what devices learn and measure: the local loop, parameters, scores, statistics.

A plugin is named `module:callable`; `client_agent.learning` says with what each is called. The server looks into none
of these tables: its sums are indifferent to what their elements mean.
"""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET, UnsetType

from schemas.policy.section import Section

Argument = bool | int | float | str | tuple[bool | int | float | str, ...]
Arguments = dict[str, Argument]

LOSSES = ("cross_entropy", "bce", "mse", "huber", "ctc", "nll")
OPTIMIZERS = ("sgd", "adam", "adamw")
# The right class among the k best; a policy names the k.
TOP_METRICS = {f"top{k}": k for k in range(2, 11)}
# Of every other metric more is better, as `stop.target_metric` takes it.
LESS_IS_BETTER = ("loss", "mae", "perplexity")
METRICS = ("loss", "accuracy", *TOP_METRICS, "f1", "auroc", "mae", "r2", "perplexity")
CLASSIFYING = ("cross_entropy", "nll")
# A loss that does not stand here is a plugin, of whose outputs nothing is known.
METRICS_BY_LOSS = {
    **dict.fromkeys(CLASSIFYING, ("loss", "accuracy", *TOP_METRICS, "f1", "auroc", "perplexity")),
    "bce": ("loss", "accuracy", "f1", "auroc"),
    **dict.fromkeys(("mse", "huber"), ("loss", "mae", "r2")),
    "ctc": ("loss",),
}

FLOWER_LEARNER = "client_agent.learning.flower:ClientApp"
FLOWER_QUERY = "client_agent.learning.flower:query"
# How an app is named beside plugins; no module can be called so.
FLOWER_APP = "flower-app:"


def name_flower_app(plugin: str, arguments: Arguments) -> str:
    """The Flower app that a plugin of fedlog's runs, as `flower-app:NAME`; empty where it is another plugin."""
    return f"{FLOWER_APP}{arguments.get('app', '')}" if plugin in (FLOWER_LEARNER, FLOWER_QUERY) else ""


class Training(Section):
    """What a device does under one lease; most of it is read by the torch learner alone.

    `steps` and `gradient_norm`: 0 means as many as the epochs have, and none. `optimizer` and `loss`: one of fedlog's
    own or a plugin. `collate` makes a batch of a list of examples. `train` trains a module in its own way, and is
    handed the rest of this table. `proximal_mu` is FedProx's (Li et al. 2020, eq. 2).
    """

    algorithm: Literal["fedavg", "fedprox"] = "fedavg"
    epochs: int = 1
    batch_size: int = 16
    steps: int = 0
    learning_rate: float = 0.1
    momentum: float = 0.0
    weight_decay: float = 0.0
    gradient_norm: float = 0.0
    proximal_mu: float = 0.0
    optimizer: str = "sgd"
    optimizer_arguments: Arguments = {}
    loss: str = "cross_entropy"
    loss_arguments: Arguments = {}
    collate: str = ""
    train: str = ""
    # A device whose labels have fewer classes is passed over, with a reason; with privacy it sends a zero vector.
    classes_min: int = 1


class Seeds(Section):
    """What is drawn, each by a seed of its own, so that one can change while the others stay.

    model: version 0. split: who has which examples. training: shuffles and dropout on devices. habits: when simulated
    devices are away, slow, or die.
    """

    model: int = 0
    split: int = 0
    training: int = 0
    habits: int = 0


class Schedule(Section):
    """A learning rate over the versions of the task, as a factor: the devices', and in a table of its own the server's.

    step: `decay` every so many versions. exponential: `decay` a version. cosine: down to `floor` over so many.
    """

    rule: Literal["constant", "step", "cosine", "exponential"] = "constant"
    warmup_versions: int = 0
    step_versions: int = 10
    decay: float = 0.5
    cosine_versions: int = 100
    floor: float = 0.0


class Parameters(Section):
    """Which of a torch module's tensors train, are averaged, or never leave the device; patterns as in a shell.

    A parameter that matches none of `trained`, or asks for no gradient, is frozen.
    """

    trained: tuple[str, ...] = ("*",)
    local: tuple[str, ...] = ()
    # Floating buffers: "local" is FedBN's way (Li et al. 2021); else those below are averaged, and others are frozen.
    buffers: Literal["averaged", "local"] = "averaged"
    averaged: tuple[str, ...] = ("*running_mean", "*running_var")
    # An averaged value is in the clipped vector times this, so that large statistics need not crowd out the rest.
    averaged_scale: float = 1.0

    @property
    def is_personal(self) -> bool:
        """Whether devices have floating tensors of their own, which no version holds."""
        return bool(self.local) or self.buffers == "local"


class Evaluation(Section):
    """How a version is scored, and which metrics of its training a device reports: what is not named is never sent.

    `metrics`: of METRICS, or plugins; empty: the loss, and the accuracy where the loss is of classes. `evaluate`: a
    plugin that scores a module in its own way. `cohort`: a column of the held-out data, or a plugin that names the
    cohort of an example. `quorum`: so many evaluators make a score final. `disagreement_max`: how far apart they may
    be in `metric`, and `drop_max`: how far a final score may fall below the best before it, or the task ends.
    `report_bounds`: with privacy, what each reported metric is cut to, either way, and `report_share`: how long they
    may be together in an update, as a share of its clip.
    """

    metrics: tuple[str, ...] = ()
    batch_size: int = 1024
    evaluate: str = ""
    report: tuple[str, ...] = ()
    # Omitted from the encoding when unset, so that older policies keep their bytes and digests.
    quorum: int | UnsetType = UNSET
    cohort: str | UnsetType = UNSET
    disagreement_max: float | UnsetType = UNSET
    metric: str | UnsetType = UNSET
    drop_max: float | UnsetType = UNSET
    report_bounds: dict[str, float] | UnsetType = UNSET
    report_share: float | UnsetType = UNSET

    @property
    def has_finals(self) -> bool:
        """Whether decisions rest on final scores; else on each score as it comes."""
        return any(rule is not UNSET for rule in (self.quorum, self.disagreement_max, self.drop_max))


def list_scored(training: Training, evaluation: Evaluation) -> tuple[str, ...]:
    """The metrics that the torch learner scores: the policy's, or what its loss suggests; the loss is always there."""
    suggested = ("accuracy", "loss") if training.loss in (*CLASSIFYING, "bce") else ("loss",)
    return tuple(dict.fromkeys((*evaluation.metrics, "loss"))) if evaluation.metrics else suggested


class Statistic(Section):
    """One named array that a measure task asks for: each element is cut to `bound`, either way."""

    bound: float
    shape: tuple[int, ...] = ()


class Measure(Section):
    """What a task of kind "measure" asks its devices; `statistics` is a plugin's answer, by name.

    `of` is the task whose model is measured, or empty; `version` -1 is its newest when this task is created.
    """

    plugin: str
    statistics: dict[str, Statistic]
    plugin_arguments: Arguments = {}
    release: Literal["mean", "sum"] = "mean"
    of: str = ""
    version: int = -1
