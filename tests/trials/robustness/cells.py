"""What is tried: data, rule, attack, share of attackers and seed; and the policy that each stands for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from client_agent.hostile.attacks import Attack, parse_attack
from schemas.policy import Policy, parse

KIND = "robustness"
DEVICES = 40
# Among them these have other data than all others: every picture is mirrored.
MINORITY = range(34, 40)
# f of every rule: what K = 20 updates of 40 devices hold of a fifth of them, and a little more.
F = 6
DATA = {"digits": 64, "mnist": 196}
# `clip`: the mean with the short clip that a private task needs, and without its noise.
RULES = ("mean", "clip", "median", "trimmed_mean", "krum", "multi_krum", "centered_clipping")
# As strong as a server notices: with weaker ones even the mean keeps its accuracy.
ATTACKS = {
    "sign_flip": 5.0,
    "scaling": 10.0,
    "gaussian": 200.0,
    "free_rider": 0.0,
    "alie": 1.5,
    "ipm": 5.0,
    "label_flip": 1.0,
    "backdoor": 5.0,
    "fast": 5.0,
    "stale_burst": 0.5,
}
TENTH, OTHER_SHARES = 0.1, (0.2, 0.05)
SEEDS = (1, 2, 3)
CLIP, SHORT_CLIP = 4.0, 0.5
POLICY = """
model = "client_agent.learning.models:softmax_regression"
model_arguments = {{ inputs = {inputs}, classes = 10 }}
data = "tests.trials.robustness.data:{data}"
[training]
epochs = 3
batch_size = 8
learning_rate = 0.1
[selection]
devices_expected = 40
concurrency = 30
lease_s = 1.0
[aggregation]
updates_per_round = 20
rule = "{rule}"
normalisation = "weight"
[clipping]
norm = {norm}
[staleness]
max_versions = 10
[stop]
versions_max = 25
[seeds]
model = {seed}
split = {seed}
training = {seed}
habits = {seed}
{robust}
"""
ROBUST = f"[robust]\nattackers_max = {F}\nselected = 12\nradius = 0.2\niterations = 5\n"


@dataclass(frozen=True, slots=True)
class Cell:
    """One training; `attack` is empty where nobody attacks."""

    data: str
    rule: str
    attack: str
    share: float
    seed: int

    @property
    def words(self) -> set[str]:
        """By which a person picks it."""
        return {self.data, self.rule, self.attack, str(self.seed)}

    @property
    def hostility(self) -> Attack | None:
        """The attack as a fleet has it."""
        return parse_attack(f"{self.attack}:{self.share}:{ATTACKS[self.attack]}") if self.attack else None

    @property
    def policy(self) -> Policy:
        """The whole policy of the training."""
        is_mean = self.rule in ("mean", "clip")
        text = POLICY.format(
            inputs=DATA[self.data],
            data=self.data,
            rule="mean" if is_mean else self.rule,
            norm=SHORT_CLIP if self.rule == "clip" else CLIP,
            seed=self.seed,
            robust="" if is_mean else ROBUST,
        )
        return parse(text.encode())

    def describe(self) -> dict[str, Any]:
        """The first columns of its row."""
        return {name: getattr(self, name) for name in Cell.__slots__}

    @classmethod
    def read(cls, row: dict[str, Any]) -> Self:
        """The cell of a row."""
        return cls(*(row[name] for name in cls.__slots__))


def list_cells() -> list[Cell]:
    """All of them, what says most first: a table that is not finished has all of its cells, and the seeds of a tenth.

    Of each part the trainings without attackers come first, because the others are compared with them.
    """
    parts = (
        ("digits", (0.0, TENTH), SEEDS),
        ("mnist", (0.0, TENTH), SEEDS[:1]),
        ("digits", OTHER_SHARES, SEEDS[:1]),
        ("mnist", (0.0, TENTH), SEEDS[1:]),
        ("mnist", OTHER_SHARES, SEEDS[:1]),
        ("digits", OTHER_SHARES, SEEDS[1:]),
        ("mnist", OTHER_SHARES, SEEDS[1:]),
    )
    return [
        Cell(data, rule, attack, share, seed)
        for data, shares, seeds in parts
        for seed in seeds
        for share in shares
        for attack in (ATTACKS if share else ("",))
        for rule in RULES
    ]
