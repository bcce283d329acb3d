"""Metrics that devices report under privacy: from their trainings over one noised sum to whoever looks at the task."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from ops.audit.findings import Findings
from ops.audit.replay import Anchor, Audit
from ops.operator import models, tasks
from schemas.events import RoundCharged, RoundProposed, SumStored, UpdateAdmitted
from schemas.policy import Policy
from schemas.policy.metrics import MetricSums
from schemas.topics import LEDGER, ROUNDS
from tests.judges.lawcheck import check
from tests.learners import TELLING_LEARNER
from tests.survey import RINGS, Survey, training_policy
from tests.worlds.builders import KEY
from tests.worlds.forging import forge_event
from tests.worlds.masking.federation import MaskedFederation, masked_policy

DEVICES, BOUND = 3, 8.0
# Device i has i + 2 examples.
MEAN = 3.0


def _rules(noise_multiplier: float = 0.001, *, rho_max: float = 1e6) -> Policy:
    """Each training tells how many examples it had; with next to no noise, unless it is asked for."""
    return training_policy(
        learner=TELLING_LEARNER,
        privacy={"noise_multiplier": noise_multiplier, "rho_max": rho_max},
        evaluation={"report": ("examples",), "report_bounds": {"examples": BOUND}},
        clipping={"norm": 8.0, "steps": 1 << 20},
        compression={"codec": "float32"},
        staleness={"rule": "constant"},
        stop={"versions_max": 2},
    )


def _replay(world: Survey) -> Findings:
    anchor = Anchor(operator=KEY.public_key, noise=KEY.find_noise)
    return Audit(world.log, world.partition, anchor=anchor, full=True).run()


def _see(world: Survey) -> float:
    view = tasks.find_view(world.log, RINGS, operator=KEY.public_key)
    return view.device_metrics["examples"]


def test_what_devices_report_is_seen_as_in_any_task(tmp_path: Path) -> None:
    """The mean over the devices, exact to the noise; what one device has told stands in no journal, and no record."""
    world = Survey(_rules())
    world.answer(RINGS, tmp_path, devices=DEVICES)
    assert _see(world) == pytest.approx(MEAN, abs=0.05)
    assert [event.metrics for event in world.events(ROUNDS.name, UpdateAdmitted)] == [()] * DEVICES
    assert [event.metrics for event in world.events(ROUNDS.name, RoundProposed)] == [None]
    view = tasks.find_view(world.log, RINGS, operator=KEY.public_key)
    # Whoever takes a model along has its arrays, and not what was told beside them.
    assert {name: array.size for name, array in models.read_arrays(world.log, view).items()} == {"flat": 6}
    found = _replay(world)
    assert (found.verdict, found.compared) == ("identical", 1)
    assert not check(world.log, world.partition, settled=True)


def test_metrics_are_in_the_noise_of_their_release(tmp_path: Path) -> None:
    """Nothing of them is published without: with z = 1 the mean is off by about z sqrt(n) bound / (share K)."""
    world = Survey(_rules(1.0))
    world.answer(RINGS, tmp_path, devices=DEVICES)
    off = abs(_see(world) - MEAN)
    # A draw beyond six sigma is none.
    assert 0.05 < off < 6 * BOUND / (0.25 * DEVICES)
    # And the charge is that of any release: one vector, one mechanism.
    [charged] = world.events(LEDGER.name, RoundCharged)
    assert (charged.participations_max, charged.rho_total) == (1, 0.5)


def test_a_budget_that_is_spent_pays_for_no_metrics(tmp_path: Path) -> None:
    """One participation a device is all that this budget has: the second round gets no lease, and tells nothing."""
    world = Survey(_rules(1.0, rho_max=0.5))
    world.answer(RINGS, tmp_path, devices=DEVICES)
    with pytest.raises(AssertionError, match="not within"):
        world.answer(RINGS, tmp_path, devices=DEVICES, until=2)
    assert len(world.events(ROUNDS.name, SumStored)) == 1
    assert [event.rho_total for event in world.events(LEDGER.name, RoundCharged)] == [0.5]


def test_a_replay_finds_other_metrics_than_those_of_the_release(tmp_path: Path) -> None:
    """They follow from the bodies, the proposal and the operator's key, and are compared to the last bit."""
    world = Survey(_rules(1.0))
    world.answer(RINGS, tmp_path, devices=DEVICES)
    forge_event(
        world,
        ROUNDS.name,
        SumStored,
        change=lambda event: msgspec.structs.replace(event, metrics=MetricSums(sums=(7,), samples=DEVICES)),
    )
    assert any("its metrics are not those of its release" in str(fault) for fault in _replay(world).differences)


@pytest.mark.parametrize("noise", ["helpers", "aggregator"])
def test_masked_metrics_are_told_by_their_sum_alone(tmp_path: Path, noise: str) -> None:
    """Under masks they are elements of the ring like any other; with noise by helpers nobody has them without."""
    rules = masked_policy(
        tmp_path,
        masked={"noise": noise},
        privacy={"noise_multiplier": 0.001, "rho_max": 1e6},
        evaluation={"report": ("loss",), "report_bounds": {"loss": 2.0}, "report_share": 0.5},
        stop={"versions_max": 2},
    )
    world = MaskedFederation(rules, tmp_path)
    # A bound of 2 is half the clip of 8 long, so that 1 is a quarter of it.
    world.round_of({name: [0.0, 0.0, 0.0, told * 2.0] for name, told in (("a", 0.5), ("b", 1.0), ("c", 2.0))})
    [stored] = world.events(ROUNDS.name, SumStored)
    assert stored.metrics is not None
    assert stored.metrics.means()[0] == pytest.approx(3.5 / 3, abs=0.05)
    assert not check(world.log, world.partition, settled=True)
