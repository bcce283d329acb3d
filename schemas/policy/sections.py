"""The tables of a policy file, with their defaults, and what follows from them: weights, noise, lease time.

It is written as TOML, recorded in TaskCreated, and never changed: another policy is another task.
"""

from __future__ import annotations

import math
from typing import Literal

from msgspec import UNSET, UnsetType

from schemas.policy.guarding.drift import Drift
from schemas.policy.guarding.quarantine import Quarantine
from schemas.policy.learning import (
    Arguments,
    Evaluation,
    Measure,
    Parameters,
    Schedule,
    Seeds,
    Training,
    name_flower_app,
)
from schemas.policy.releasing.rollout import Rollout
from schemas.policy.section import Section
from schemas.policy.spending import count_affordable, to_fraction

WEIGHT_ONE = 1 << 20  # the integer weight of a fresh update that counts once
# The same in the tier masked, where a sum has to stay within 2^31.
WEIGHT_ONE_MASKED = 15
NOISE_TAIL_SIGMAS = 18  # no draw is further out: 12 a rung, and two rungs side by side add up to 12 sqrt 2


class Compression(Section):
    """How an update's delta is written."""

    codec: Literal["float32", "float16", "int8", "int4", "topk"] = "int8"
    topk_fraction: float = 0.1
    # The device adds what a codec has lost to its next update; without it topk would never send small elements.
    error_feedback: bool = True


class Clipping(Section):
    """The norm that no update exceeds, and the grid that makes sums exact: step = norm / steps."""

    norm: float = 1.0
    # More steps are finer and sum up to larger numbers: `checks` keeps K updates below 2^63.
    steps: int = 1 << 16

    @property
    def step(self) -> float:
        """The width of the grid, in units of the model's parameters."""
        return self.norm / self.steps


class Selection(Section):
    """Which devices may train, how many at a time, how often, and for how long.

    `participations_max`: how often one device may take part in this task; 0 is as often as it likes. `rule`: "uniform"
    prefers nobody; "utility" is Oort's, and looks at what devices report and at their times. `exploration`: its share
    of the slots for devices of which nothing is known. `fast_s`: who takes longer counts less; 0: time plays no part.
    """

    # The population, which bounds K and the participations that privacy can pay for.
    devices_expected: int
    concurrency: int
    lease_s: float = 60.0
    battery_min_percent: int = 0
    require_charging: bool = False
    require_unmetered: bool = False
    require_idle: bool = False
    samples_min: int = 1
    cohort_shares: dict[str, float] = {}  # share of the concurrency that a cohort may hold; empty: one pool
    participations_max: int = 0
    rule: Literal["uniform", "utility"] = "uniform"
    exploration: float = 0.2
    fast_s: float = 0.0
    # What a declined device waits: it spreads the check-ins of a large population.
    retry_after_s: float = 5.0


class Staleness(Section):
    """How much an update counts that trained on an older version."""

    rule: Literal["constant", "polynomial", "hinge", "threshold"] = "polynomial"
    exponent: float = 0.5
    hinge_a: float = 10.0
    hinge_b: int = 4
    threshold: int = 4
    # Older updates are refused, because the table of weights ends here.
    max_versions: int = 20


class Optimizer(Section):
    """The server's step on the mean delta."""

    rule: Literal["sgd", "momentum", "adam", "adagrad", "yogi"] = "sgd"
    learning_rate: float = 1.0
    momentum: float = 0.9
    beta1: float = 0.9
    beta2: float = 0.99
    tau: float = 1e-3  # Adam's epsilon (Reddi et al. 2021, FedAdam)


class Aggregation(Section):
    """When a round is full and how its updates become one."""

    updates_per_round: int
    rule: Literal["mean", "median", "trimmed_mean", "krum", "multi_krum", "centered_clipping"] = "mean"
    # By the sum of weights or by the count; with privacy only the count has a bounded sensitivity.
    normalisation: Literal["count", "weight"] = "count"
    samples_max: int = 0  # 0: every update counts alike; else its weight is its samples, up to this many
    # A round also ends this long after it opened, once it has `updates_min`; 0: by count alone, as privacy demands.
    round_s: float = 0.0
    updates_min: int = 1

    @property
    def members_min(self) -> int:
        """How few updates a round may have."""
        return self.updates_min if self.round_s else self.updates_per_round


class Robust(Section):
    """What a robust rule of aggregation is to withstand, and how.

    `attackers_max`: f, how many updates of a round may be anybody's. `selected`: how many Multi-Krum takes. `radius`:
    of centered clipping, as a share of `clipping.norm`; `iterations`: how often its centre moves.
    """

    attackers_max: int = 1
    selected: int = 1
    radius: float = 0.1
    iterations: int = 3


class Privacy(Section):
    """Central differential privacy (zCDP); the unit is one device."""

    noise_multiplier: float
    rho_max: float
    delta: float = 1e-5


class Stop(Section):
    """When the task is done, and when it gives up."""

    versions_max: int
    target_metric: str = ""
    target_value: float = 0.0
    # Without progress for this long the task halts, so that nothing waits for it without end.
    idle_s: float = 600.0


class Sealed(Section):
    """For how long one key serves in the tier sealed.

    `epoch_versions`: another key after so many versions. `kept_s`: how much longer than its last lease and round a key
    lives, so that somebody can recompute what was made under it; 0 destroys it at once.
    """

    epoch_versions: int = 50
    kept_s: float = 0.0


class Masked(Section):
    """Whom the tier masked rests on.

    `helpers`: the public key of each, in hex, as `fedlog helper init` prints it; their order is that of their numbers.
    `epoch_versions`: other keys after so many versions. `effective_min`: how many updates of one weight a round has to
    be worth, (sum w)^2 / sum w^2, or no helper answers; 0 stands for half of the fewest that a round may have. `noise`:
    who draws that of a private task: each helper the whole of it, so that nobody has a sum without while one is honest,
    or the aggregator, which sees each sum before.
    """

    helpers: tuple[str, ...] = ()
    epoch_versions: int = 50
    effective_min: float = 0.0
    noise: Literal["none", "helpers", "aggregator"] = "none"

    @property
    def public_keys(self) -> tuple[bytes, ...]:
        """The helpers' public keys, 32 bytes each, in the order of their numbers."""
        return tuple(map(bytes.fromhex, self.helpers))


class Retention(Section):
    """How long bodies and models stay readable."""

    body_hours: float = 48.0
    models_kept: int = 30
    # Every n-th model is kept besides the newest; 0 keeps none.
    milestone_every: int = 0


class Policy(Section):
    """All of it. `model` makes the torch module that is trained, or `learner` whatever else learns; both are plugins.

    `data` gives devices and evaluators their examples; without it each names its own.
    """

    selection: Selection
    aggregation: Aggregation
    stop: Stop
    kind: Literal["train", "measure"] = "train"
    model: str = ""
    model_arguments: Arguments = {}
    learner: str = ""
    learner_arguments: Arguments = {}
    data: str = ""
    tier: Literal["plain", "sealed", "masked"] = "plain"
    training: Training = Training()
    schedule: Schedule = Schedule()
    parameters: Parameters = Parameters()
    evaluation: Evaluation = Evaluation()
    measure: Measure | None = None
    compression: Compression = Compression()
    clipping: Clipping = Clipping()
    staleness: Staleness = Staleness()
    optimizer: Optimizer = Optimizer()
    server_schedule: Schedule = Schedule()
    privacy: Privacy | None = None
    retention: Retention = Retention()
    # Omitted from the encoding when unset: a policy without them has the same bytes and digest in every release.
    shards: int | UnsetType = UNSET
    seeds: Seeds | UnsetType = UNSET
    robust: Robust | UnsetType = UNSET
    quarantine: Quarantine | UnsetType = UNSET
    sealed: Sealed | UnsetType = UNSET
    masked: Masked | UnsetType = UNSET
    # Who may take part: whoever has a key, or who is enrolled; then a person or a machine counts, and not a key.
    identity: Literal["open", "enrolled"] | UnsetType = UNSET
    # Of which classes of enrolment; unset or empty: of any.
    device_classes: tuple[str, ...] | UnsetType = UNSET
    rollout: Rollout | UnsetType = UNSET
    drift: Drift | UnsetType = UNSET

    @property
    def shard_count(self) -> int:
        """Number of partitions over which the bodies are spread, one shard worker each; 1 means no shard workers."""
        return 1 if self.shards is UNSET else self.shards

    @property
    def withstood_by(self) -> Robust:
        """What the policy says of its robust rule; the defaults where it says nothing."""
        return Robust() if self.robust is UNSET else self.robust

    @property
    def tier_label(self) -> str:
        """The tier, and who sees single updates in it, for people."""
        if self.is_masked:
            n = len(self.masked_by.helpers)
            # Who enrols, and who runs the helpers, no policy can prove: the weaker promise is the one that is shown.
            return (
                f"masked: nobody sees single updates while one helper of {n} is honest; where enrolment or all helpers "
                "are the operator's: honest-but-curious server only"
            )
        return f"{self.tier}: {'the aggregator' if self.is_sealed else 'whoever reads the log'} sees single updates"

    @property
    def is_sealed(self) -> bool:
        """Whether bodies are encrypted on the device, to a key of the aggregator."""
        return self.tier == "sealed"

    @property
    def is_masked(self) -> bool:
        """Whether devices add masks to their vectors, which only all helpers together can take off a sum."""
        return self.tier == "masked"

    @property
    def has_epochs(self) -> bool:
        """Whether leases name the epoch of a key to which something is sealed."""
        return self.is_sealed or self.is_masked

    @property
    def noise_draws(self) -> int:
        """How often the whole noise of a release is drawn: once, or by every helper that draws it."""
        return len(self.masked_by.helpers) if self.masked_by.noise == "helpers" else 1

    @property
    def masked_by(self) -> Masked:
        """What the policy says of its helpers; none where it says nothing."""
        return Masked() if self.masked is UNSET else self.masked

    @property
    def sealed_by(self) -> Sealed:
        """What the policy says of its keys; the defaults where it says nothing."""
        return Sealed() if self.sealed is UNSET else self.sealed

    @property
    def is_enrolled(self) -> bool:
        """Whether only enrolled devices take part, each counted as its subject."""
        return self.identity == "enrolled"

    def takes_class(self, device_class: str) -> bool:
        """Whether devices of this class may take part, once they are enrolled."""
        return not self.device_classes or device_class in self.device_classes

    @property
    def drawn_by(self) -> Seeds:
        """The seeds of the policy; all 0 where it names none."""
        return Seeds() if self.seeds is UNSET else self.seeds

    def list_plugins(self) -> dict[str, str]:
        """Every plugin that the policy names, by its field: code that runs on devices and evaluators."""
        measure = self.measure.plugin if self.measure else ""
        named = {
            "model": self.model,
            "learner": self.learner,
            "learner_arguments.app": name_flower_app(self.learner, self.learner_arguments),
            "data": self.data,
            "training.train": self.training.train,
            "training.collate": self.training.collate,
            "training.optimizer": self.training.optimizer,
            "training.loss": self.training.loss,
            "evaluation.evaluate": self.evaluation.evaluate,
            "evaluation.cohort": self.evaluation.cohort or "",
            "measure.plugin": measure,
            "measure.plugin_arguments.app": name_flower_app(
                measure, self.measure.plugin_arguments if self.measure else {}
            ),
            **{f"evaluation.metrics[{i}]": metric for i, metric in enumerate(self.evaluation.metrics)},
            **{f"evaluation.report[{i}]": metric for i, metric in enumerate(self.evaluation.report)},
        }
        # A name without a colon is one of fedlog's own.
        return {field: plugin for field, plugin in named.items() if ":" in plugin}

    def weights(self) -> tuple[int, ...]:
        """The integer weight for each staleness from 0 to `staleness.max_versions`; recorded in TaskCreated."""
        factors = [_staleness_factor(self.staleness, staleness) for staleness in range(self._staleness_end())]
        # Masked, an update that counts at all counts one at least: the steps are as coarse as the ring is narrow.
        least = 1 if self.is_masked else 0
        return tuple(max(least, round(self.weight_one * factor)) if factor else 0 for factor in factors)

    @property
    def weight_one(self) -> int:
        """The integer weight of a fresh update that counts once."""
        return WEIGHT_ONE_MASKED if self.is_masked else WEIGHT_ONE

    def _staleness_end(self) -> int:
        return self.staleness.max_versions + 1

    @property
    def weight_max(self) -> int:
        """The largest weight that any update can get."""
        return self.weight_one * max(1, self.aggregation.samples_max)

    @property
    def participations_cap(self) -> int | None:
        """How often one device may take part where nothing was spent before; None without privacy."""
        if self.privacy is None:
            return None
        return count_affordable(self.privacy.noise_multiplier, self.privacy.rho_max)

    @property
    def sigma(self) -> int:
        """The noise's standard deviation on the sum's grid: z * w_max * C, rounded up; 0 without privacy."""
        if self.privacy is None:
            return 0
        # Exactly: rounded down by a float it would be less noise than is charged.
        return math.ceil(to_fraction(self.privacy.noise_multiplier) * self.weight_max * self.clipping.steps)

    @property
    def lease_ms(self) -> int:
        """How long a device may take, from the grant to the append of its update."""
        return round(self.selection.lease_s * 1000)


def name_stored_codec(policy: Policy) -> str:
    """How the body of an update is written, as a BodyRef names it."""
    return "ring32" if policy.is_masked else policy.compression.codec


def count_epoch_versions(policy: Policy) -> int:
    """After how many versions leases name another key."""
    return (policy.masked_by if policy.is_masked else policy.sealed_by).epoch_versions


def find_effective_min(policy: Policy) -> float:
    """How many updates of one weight a masked round has to be worth."""
    return policy.masked_by.effective_min or max(2.0, policy.aggregation.members_min / 2)


def name_judged_metric(policy: Policy) -> str:
    """The metric by which scores are compared: those of several evaluators, and those of versions."""
    return policy.evaluation.metric or policy.stop.target_metric or "accuracy"


def _staleness_factor(rule: Staleness, staleness: int) -> float:
    """FedAsync's functions (Xie et al. 2019, section 5.2); `threshold` counts fully up to its bound, then not."""
    match rule.rule:
        case "constant":
            return 1.0
        case "polynomial":
            return float((1 + staleness) ** -rule.exponent)
        case "hinge":
            late = staleness - rule.hinge_b
            return 1.0 if late <= 0 else 1.0 / (rule.hinge_a * late + 1)
        case "threshold":
            return 1.0 if staleness <= rule.threshold else 0.0
