"""A device of a masked task: what it sends says nothing without every helper, and it knows whose helpers they are."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schemas.leases import Lease
from schemas.masking.ring import WORD_BYTES
from tests.worlds.device_world import CrashAfter, Killed, flush
from tests.worlds.masking.device_world import PUBLIC, MaskedWorld, masked_policy

STEPS = ("granted", "trained", "kept", "stored", "addressed", "sent", "settled")


def _make(size: str = "small") -> MaskedWorld:
    return MaskedWorld(masked_policy()) if size == "small" else MaskedWorld(masked_policy(), parameters=40_000)


def _live(world: MaskedWorld, folder: Path, step: str = "", *, at_ms: int = 0, statements: Any = None) -> None:
    """From a start to the outcome, or to the death at `step`."""
    device = world.device(folder, profile=CrashAfter(step))
    lease = world.lease(1, device)
    with suppress(Killed):
        device.wake(at_ms)
        flush(device, at_ms)
        if not world.submitted():
            device.receive(world.grant(lease, statements=statements), at_ms)
        device.wake(at_ms)
        flush(device, at_ms)
        if world.submitted():
            device.receive(world.outcome(lease, "admitted"), at_ms)


@pytest.mark.parametrize("size", ["small", "large"])
def test_what_leaves_the_device_says_nothing_without_every_helper(tmp_path: Path, size: str) -> None:
    """Guarantee: the vector is in no topic, both helpers' seeds give it back, and it is within the clip."""
    world = _make(size)
    _live(world, tmp_path)
    [update] = world.submitted()
    assert (update.metrics, update.fidelity) == ((), None)
    assert (update.inline is None) == (size == "large")
    assert (update.body.size, update.body.codec) == (WORD_BYTES * world.parameters, "ring32")
    grid = world.unmask(update)
    assert grid.any()
    assert int(np.dot(grid, grid)) <= world.policy.clipping.steps**2
    records = b"".join(record.value or b"" for topic in ("updates", "bodies") for record in world.records(topic))
    for hidden in (grid.astype("<i4").tobytes()[:64], world.seen(update).tobytes()[:64]):
        assert hidden not in records


@pytest.mark.parametrize("size", ["small", "large"])
@pytest.mark.parametrize("step", STEPS)
def test_a_device_masks_once_however_often_it_dies(tmp_path: Path, size: str, step: str) -> None:
    """Guarantee: two masked vectors of one update under one lease would differ by more than noise: there is one."""
    world = _make(size)
    _live(world, tmp_path, step)
    _live(world, tmp_path, at_ms=1_000)
    assert len({record.value for record in world.records("updates")}) == 1
    assert world.seen(world.submitted()[0]).any()
    assert world.device(tmp_path)._outbox.entries == ()


LIES: dict[str, tuple[int, dict[str, Any]]] = {
    "another epoch": (1, {"epoch": 2}),
    "another task": (1, {"task": "other"}),
    "the other's number": (1, {"helper": 0}),
}


@pytest.mark.parametrize("lie", [*LIES, "one helper alone", "twice the same", "nobody's words", "a third"])
def test_a_device_trains_for_nobody_without_the_key_of_each_helper(tmp_path: Path, lie: str) -> None:
    """Guarantee: a selector that is taken over leaves no helper out, and puts no key of its own in its place."""
    world = _make()
    honest = (world.say(0), world.say(1))
    statements = {
        "one helper alone": honest[:1],
        "twice the same": (honest[0], honest[0]),
        "nobody's words": (honest[0], honest[1][:-1] + bytes([honest[1][-1] ^ 1])),
        "a third": (*honest, honest[0]),
    }.get(lie)
    if lie in LIES:
        helper, changes = LIES[lie]
        statements = (honest[0], world.say(helper, **changes))
    _live(world, tmp_path, statements=statements)
    assert world.submitted() == []


@pytest.mark.parametrize(("pinned", "sends"), [((0,), True), ((1,), True), ((0, 1), True), ((2,), False), ((), True)])
def test_a_device_trains_for_helpers_that_its_owner_trusts(
    tmp_path: Path, pinned: tuple[int, ...], sends: bool
) -> None:
    """Guarantee: with --helper a task that none of them masks gets no update; without it any task's policy is taken."""
    world, known = _make(), [*PUBLIC, b"\x09" * 32]
    world.pinned = frozenset(known[number] for number in pinned)
    _live(world, tmp_path)
    assert bool(world.submitted()) is sends


Words = Callable[[MaskedWorld, Lease], tuple[bytes, ...]]
ANOTHER = {"model_sha256": b"\x07" * 32}
UNSIGNED: dict[str, tuple[Words, str]] = {
    "one helper alone": (lambda w, lease: (w.cosign(0, lease),), "helper 1 has not co-signed it"),
    "another model": (
        lambda w, lease: (w.cosign(0, lease), w.cosign(1, lease, **ANOTHER)),
        "helper 1 has co-signed another model",
    ),
    "both another model": (
        lambda w, lease: (w.cosign(0, lease, **ANOTHER), w.cosign(1, lease, **ANOTHER)),
        "helper 0 has co-signed another model",
    ),
    "another version": (
        lambda w, lease: (w.cosign(0, lease), w.cosign(1, lease, version=lease.version + 1)),
        "helper 1 has not co-signed it",
    ),
    "another task": (
        lambda w, lease: (w.cosign(0, lease), w.cosign(1, lease, task="other")),
        "helper 1 has not co-signed it",
    ),
    "one hand for both": (
        lambda w, lease: (w.cosign(0, lease), w.cosign(1, lease, key=0)),
        "helper 1 has not co-signed it",
    ),
    "of a key": (lambda w, lease: (w.cosign(0, lease), w.say(1)), "helper 1 has not co-signed it"),
    "noise": (lambda w, lease: (b"", b"x"), "no words of helpers"),
}


@pytest.mark.parametrize("case", UNSIGNED)
def test_a_device_trains_on_no_model_that_not_every_helper_has_cosigned(tmp_path: Path, case: str) -> None:
    """Guarantee: of two models for one version a device trains on one at most, whoever grants it the other."""
    world = _make()
    world.cosigned, reason = partial(UNSIGNED[case][0], world), UNSIGNED[case][1]
    device = world.device(tmp_path)
    device.wake(0)
    flush(device, 0)
    device.receive(world.grant(world.lease(1, device)), 0)
    device.wake(0)
    flush(device, 0)
    assert (world.trainings, world.submitted()) == (0, [])
    assert device.given_up_for.endswith(reason)
    assert [report.reason for report in world.abandoned()] == ["task_unfit"]


def test_a_lease_without_a_word_of_helpers_is_given_up(tmp_path: Path) -> None:
    """Guarantee: leaving the words away, as an older server does, makes no device train."""
    world = _make()
    world.cosigned = None
    _live(world, tmp_path)
    assert (world.trainings, world.submitted()) == (0, [])
