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
# A burst comes once in so many seconds, and who is in two rounds cannot be apart in three: more of both.
BURST_REAL, VERSIONS_BURST = 0.1, 30
# Rounds, window and z of a table: first as it comes, then what lets more pass.
SETTINGS = ((3, 5, 3.5), (3, 5, 5.0), (3, 5, 7.0), (5, 5, 3.5), (5, 5, 5.0))
SEEDS = (1, 2, 3)
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
{table}
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
    """One task; `attack` is empty where nobody attacks. `setting`: one of SETTINGS."""

    attack: str
    tier: str
    versions: int = VERSIONS
    is_real: bool = False
    seed: int = SEED
    setting: tuple[int, int, float] = SETTINGS[0]

    @property
    def task(self) -> str:
        """Its name on the log."""
        return f"{self.attack or 'nobody'}-{self.tier}".replace("_", "-")

    @property
    def hostility(self) -> Attack | None:
        """The attack as a fleet has it."""
        strength = BURST_REAL if self.is_real and self.attack == "stale_burst" else ATTACKS.get(self.attack)
        return parse_attack(f"{self.attack}:{SHARE}:{strength}") if self.attack else None

    @property
    def text(self) -> str:
        """The policy as a file has it; by default its table [quarantine] asks for no more than that there is one."""
        table = "" if self.setting == SETTINGS[0] else "rounds = {}\nwindow = {}\nz_min = {}".format(*self.setting)
        return POLICY.format(
            data=DATA, tier=self.tier, devices=DEVICES, versions=self.versions, seed=self.seed, table=table
        )

    @property
    def policy(self) -> Policy:
        """The whole policy."""
        return parse(self.text.encode())

    @property
    def groups(self) -> dict[str, frozenset[int]]:
        """The places of the devices: hostile, honest with data unlike the others', and all other honest ones."""
        attack = self.hostility
        hostile = choose_attackers(attack, DEVICES, seed=self.seed) if attack else frozenset[int]()
        minority = frozenset(MINORITY) - hostile
        return {
            "hostile": hostile,
            "minority": minority,
            "majority": frozenset(range(DEVICES)) - hostile - minority,
        }


def list_cells(only: str = "") -> list[Cell]:
    """Those that are tried by virtual time, or those of them with a word in their names."""
    cells = [Cell(attack, "plain") for attack in ("", *ATTACKS)]
    return [cell for cell in cells if only in cell.task]


def list_real_cells(only: str = "") -> list[Cell]:
    """The same on a real Kafka."""
    cells = [
        Cell(attack, tier, VERSIONS_BURST if attack == "stale_burst" else VERSIONS_REAL, is_real=True)
        for attack in ("", *ATTACKS)
        for tier in TIERS
    ]
    return [cell for cell in cells if only in cell.task]


def list_settings(only: str = "") -> list[Cell]:
    """Each setting under each attack, by virtual time; and with several seeds where nobody attacks."""
    cells = [
        Cell(attack, "plain", seed=seed, setting=setting)
        for attack in ("", *ATTACKS)
        for setting in SETTINGS
        for seed in (SEEDS[:1] if attack else SEEDS)
    ]
    return [cell for cell in cells if only in cell.task]
