"""The seam of log and arithmetic: what a body measures, and that a total follows from its members alone (law 6)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from actors.effects.aggregator import summation
from actors.effects.aggregator.summation import Comparison, PlainSum, choose_summation
from schemas.events import UpdateAdmitted
from schemas.identifiers import BodyRef
from schemas.policy import WEIGHT_ONE
from schemas.tensors import Floats, clipping, encode_update, pack
from schemas.tensors.clipping import SCALE_ONE
from streams.bodies import Absent
from tests.judges import slow_sums
from tests.worlds.builders import body_ref, policy, task_created, update_admitted

RULES = policy()
SUM = PlainSum(task_created(RULES))
DELTAS = [np.full(4, value, np.float32) for value in (0.5, -1.0, 2.0)]
BODIES = {body_ref(f"{number}"): encode_update(delta, RULES) for number, delta in enumerate(DELTAS)}
MEMBERS = [update_admitted(f"d{number}", body=ref, weight=WEIGHT_ONE) for number, ref in enumerate(BODIES)]


def _fetch(ref: BodyRef) -> bytes:
    return BODIES[ref]


def _mean(deltas: Sequence[Floats]) -> Floats:
    """What the deltas add up to, in grid units of weight one."""
    return np.sum(deltas, axis=0) / RULES.clipping.step * WEIGHT_ONE


def test_a_body_within_the_norm_keeps_its_length() -> None:
    """Its vector is on the task's grid, and its scale is one."""
    measured = SUM.measure(BODIES[body_ref("0")])
    assert (measured.scale, measured.fault) == (SCALE_ONE, None)
    assert measured.quanta is not None
    assert measured.quanta.grid() * RULES.clipping.step == pytest.approx(DELTAS[0])


def test_a_longer_body_is_scaled_down() -> None:
    """The scale brings it to the clip norm: half for twice the norm."""
    measured = SUM.measure(encode_update(np.full(4, 8.0, np.float32), RULES))
    assert measured.scale == SCALE_ONE // 2


FAULTY = {
    "body_absent": Absent("bodies[0] ends at 7"),
    "body_malformed": b"junk",
    "body_shape": encode_update(np.ones(5, np.float32), RULES),
    "not_finite": pack(np.full(4, np.nan, np.float32)),
    "out_of_grid": pack(np.full(4, 17.0, np.float32)),
}


@pytest.mark.parametrize("fault", FAULTY)
def test_a_body_that_is_no_update_has_its_fault(fault: str) -> None:
    """Its reason is from the closed list, and a person reads why."""
    measured = SUM.measure(FAULTY[fault])
    assert (measured.fault, measured.quanta) == (fault, None)
    assert measured.why


def test_a_total_is_recomputed_from_bodies_alone() -> None:
    """Law 1: vectors are not state; whoever has the members and the bodies has the sum."""
    assert SUM.recompute(MEMBERS, _fetch).total() == pytest.approx(_mean(DELTAS))


def test_members_that_are_added_one_by_one_give_the_same_total() -> None:
    """The road of an admission and that of a restart end in the same bits."""
    running = SUM.start()
    for member in reversed(MEMBERS):
        measured = SUM.measure(_fetch(member.body))
        assert measured.quanta is not None
        running.add(measured.quanta, update=member.update, weight=member.weight, scale=measured.scale)
    assert running.total().tobytes() == SUM.recompute(MEMBERS, _fetch).total().tobytes()


def test_a_zeroed_member_is_not_fetched() -> None:
    """It keeps its slot, adds nothing, and its body may be nowhere."""
    zeroed = update_admitted("d3", body=body_ref("nowhere"), zeroed="body_absent", clip_scale=0)
    assert SUM.recompute([*MEMBERS, zeroed], _fetch).total().tolist() == SUM.recompute(MEMBERS, _fetch).total().tolist()


@pytest.mark.parametrize("split", range(4))
def test_sums_of_shard_workers_add_up(split: int) -> None:
    """Disjoint members may be added anywhere; the running total is not changed by what is added to it."""

    def total(members: list[UpdateAdmitted]) -> np.ndarray:
        return SUM.recompute(members, _fetch).total()

    running = SUM.recompute(MEMBERS[:split], _fetch)
    partials = [total([member]) for member in MEMBERS[split:]]
    assert SUM.total(running, partials).tolist() == SUM.total(running, partials).tolist() == total(MEMBERS).tolist()


def test_a_task_has_the_summation_of_its_tier_and_rule() -> None:
    """The mean is a sum; every other rule compares."""
    created = task_created()
    assert choose_summation(created) == PlainSum(created)
    robust = task_created(policy(aggregation={"rule": "median"}))
    assert choose_summation(robust) == Comparison(robust)


def _rounds(rule: str) -> tuple[Comparison, dict[BodyRef, bytes], list[UpdateAdmitted]]:
    rules = policy(aggregation={"rule": rule, "updates_per_round": 5}, robust={"attackers_max": 1})
    deltas = [np.array([n, -n, 0.25, 3 - n], np.float32) for n in (0.5, -1.0, 2.0, 1.0, 2.0)]
    bodies = {body_ref(f"r{number}"): encode_update(delta, rules) for number, delta in enumerate(deltas)}
    members = [
        update_admitted(f"d{number}", body=ref, weight=WEIGHT_ONE >> number) for number, ref in enumerate(bodies)
    ]
    return Comparison(task_created(rules)), bodies, members


@pytest.mark.parametrize("rule", ["median", "trimmed_mean", "krum", "centered_clipping"])
@pytest.mark.parametrize("kept_in_memory", [0, 1 << 20])
def test_a_robust_rule_depends_on_its_members_alone(
    rule: str, kept_in_memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Law 6: in any order, on disk or in memory, in one piece or in many, to the bit what the slow rule gives."""
    monkeypatch.setattr(summation, "KEPT_IN_MEMORY_BYTES", kept_in_memory)
    monkeypatch.setattr(summation, "PIECE_ELEMENTS", 10)
    comparison, bodies, members = _rounds(rule)
    by_name = sorted(members, key=lambda member: member.update)
    vectors = []
    for member in by_name:
        quanta = comparison.measure(bodies[member.body]).quanta
        assert quanta is not None
        vectors.append(clipping.clip(quanta, member.clip_scale).tolist())
    weights = [member.weight for member in by_name]
    expected = slow_sums.combined(comparison.created.policy, vectors, weights)
    for ordered in (members, members[::-1]):
        assert comparison.recompute(ordered, bodies.__getitem__).total().tolist() == expected


def test_a_round_without_vectors_moves_nothing() -> None:
    """All of its members may be zeroed, or it may have none."""
    comparison, _, _ = _rounds("median")
    assert comparison.start().total().tolist() == [0, 0, 0, 0]
