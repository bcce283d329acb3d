"""What a version is made of: how its members weigh, how often the clip bit, what codecs have lost.

`ops.history.task_view` folds it from the admissions of a round, and keeps it by version.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from schemas.events import UpdateAdmitted
from schemas.policy import WEIGHT_ONE
from schemas.policy.metrics import METRIC_ONE


@dataclass(frozen=True, slots=True)
class Makeup:
    """Sums over the members of one round. Weights are integers, of `weight_one` a fresh update that counts once.

    `told`: members whose devices say what clip and codec left, which nobody does with privacy.
    """

    members: int = 0
    clipped: int = 0
    weight_sum: int = 0
    weight_squares: int = 0
    weight_min: int = 0
    weight_max: int = 0
    told: int = 0
    lost_sum: int = 0
    weight_one: int = WEIGHT_ONE

    def add(self, admitted: UpdateAdmitted) -> Makeup:
        """The same with one member more."""
        # Sums only, so that a version of any size is described by eight numbers.
        told, weight = admitted.fidelity, admitted.weight
        return Makeup(
            members=self.members + 1,
            clipped=self.clipped + admitted.is_clipped,
            weight_sum=self.weight_sum + weight,
            weight_squares=self.weight_squares + weight * weight,
            weight_min=min(self.weight_min, weight) if self.members else weight,
            weight_max=max(self.weight_max, weight),
            told=self.told + (told is not None),
            lost_sum=self.lost_sum + (told.lost if told else 0),
            weight_one=admitted.weight_one,
        )

    @property
    def updates_effective(self) -> float:
        """As many updates of one weight would say as much: (sum w)^2 / sum w^2 (Kish 1965)."""
        return self.weight_sum**2 / self.weight_squares if self.weight_squares else 0.0

    @property
    def codec_loss(self) -> float | None:
        """The mean share of an update's norm that its codec lost; None where no device tells."""
        return self.lost_sum / self.told / METRIC_ONE if self.told else None

    def to_json(self) -> dict[str, Any]:
        """The same for people and programs; weights in units of a fresh update that counts once."""
        return {
            "members": self.members,
            "clipped": self.clipped,
            "codec_loss": self.codec_loss,
            "weight_min": self.weight_min / self.weight_one,
            "weight_max": self.weight_max / self.weight_one,
            "updates_effective": self.updates_effective,
        }
