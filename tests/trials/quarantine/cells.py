"""What is tried: an attack or none, plain or sealed; and the policy that each stands for."""

from __future__ import annotations

from dataclasses import dataclass

from client_agent.hostile.attacks import Attack, parse_attack
from client_agent.hostile.crew import choose_attackers
from schemas.policy import Policy, parse
from tests.trials.robustness.cells import DEVICES, MINORITY

DATA = "tests.trials.robustness.data:digits"
# As strong as in `make robustness`.
ATTACKS = {"sign_flip": 5.0, "scaling": 10.0, "fast": 5.0, "stale_burst": 0.5}
SHARE, TIERS, SEED = 0.1, ("plain", "sealed"), 1
# By virtual time, and on a real Kafka.
VERSIONS, VERSIONS_REAL = 30, 14
HABITS = {"training_ms": 60.0, "speed_sigma": 0.5}
POLICY = """
model = "client_agent.learning.models:softmax_regression"
model_arguments = {{ inputs = 64, classes = 10 }}
data = "{data}"
tier = "{tier}"
[training]
epochs = 3
batch_size = 8
learning_rate = 0.1
[selection]
devices_expected = {devices}
concurrency = 30
lease_s = 20.0
retry_after_s = 0.1
[aggregation]
updates_per_round = 20
[quarantine]
[clipping]
norm = 4.0
[staleness]
max_versions = 10
[stop]
versions_max = {versions}
[seeds]
model = {seed}
split = {seed}
training = {seed}
habits = {seed}
"""


@dataclass(frozen=True, slots=True)
class Cell:
    """One task; `attack` is empty where nobody attacks."""

    attack: str
    tier: str
    versions: int = VERSIONS

    @property
    def task(self) -> str:
        """Its name on the log."""
        return f"{self.attack or 'nobody'}-{self.tier}".replace("_", "-")

    @property
    def hostility(self) -> Attack | None:
        """The attack as a fleet has it."""
        return parse_attack(f"{self.attack}:{SHARE}:{ATTACKS[self.attack]}") if self.attack else None

    @property
    def text(self) -> str:
        """The policy as a file has it; its table [quarantine] asks for no more than that there is one."""
        return POLICY.format(data=DATA, tier=self.tier, devices=DEVICES, versions=self.versions, seed=SEED)

    @property
    def policy(self) -> Policy:
        """The whole policy."""
        return parse(self.text.encode())

    @property
    def groups(self) -> dict[str, frozenset[int]]:
        """The places of the devices: hostile, honest with data unlike the others', and all other honest ones."""
        attack = self.hostility
        hostile = choose_attackers(attack, DEVICES, seed=SEED) if attack else frozenset[int]()
        minority = frozenset(MINORITY) - hostile
        return {
            "hostile": hostile,
            "minority": minority,
            "majority": frozenset(range(DEVICES)) - hostile - minority,
        }


def list_cells(only: str = "", *, versions: int = VERSIONS) -> list[Cell]:
    """All of them, or those with a word in their names."""
    cells = [Cell(attack, tier, versions) for attack in ("", *ATTACKS) for tier in TIERS]
    return [cell for cell in cells if only in cell.task]
