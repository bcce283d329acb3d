"""What a version is made of: weights, clips and codec loss of its members."""

from __future__ import annotations

from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.history.makeup import Makeup
from schemas.policy import WEIGHT_ONE
from schemas.policy.metrics import METRIC_ONE, Fidelity
from tests.worlds.builders import SCALE_ONE, update_admitted

WHOLE = Fidelity(kept=METRIC_ONE, lost=METRIC_ONE // 4)
CUT = Fidelity(kept=METRIC_ONE // 2, lost=METRIC_ONE // 2)


def test_a_version_knows_its_clips_losses_and_weights() -> None:
    """A clip counts whether the device tells of it or the server did it; a zero vector was not clipped."""
    members = [
        update_admitted("a", fidelity=WHOLE),
        update_admitted("b", fidelity=CUT, weight=2 * WEIGHT_ONE),
        update_admitted("c", clip_scale=SCALE_ONE - 1),
        update_admitted("d", clip_scale=0, zeroed="not_finite"),
    ]
    made = reduce(Makeup.add, members, Makeup())
    assert (made.members, made.clipped, made.codec_loss) == (4, 2, 0.375)
    assert made.updates_effective == pytest.approx(25 / 7)
    assert made.to_json()["weight_max"] == 2.0
    assert Makeup().codec_loss is None


@given(st.lists(st.integers(1, 1 << 36), min_size=1, max_size=50))
def test_the_effective_number_is_between_one_and_all(weights: list[int]) -> None:
    """Equal weights are worth all members, and one that outweighs the others is worth itself."""
    made = reduce(Makeup.add, (update_admitted("a", weight=weight) for weight in weights), Makeup())
    assert 1 - 1e-9 <= made.updates_effective <= len(weights) + 1e-9
    assert (made.weight_min, made.weight_max) == (min(weights), max(weights))
