"""A device of a sealed task: it seals to the aggregator's key alone, once, and keeps what a refusal gives back."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np
import pytest
from msgspec import UNSET

from client_agent.links.kafka import KafkaLink
from schemas.events import Granted
from schemas.policy import Compression, Evaluation
from schemas.topics import ANSWERS, answer_partition
from tests.worlds.builders import KEY, told
from tests.worlds.device_world import PHONE, CrashAfter, Killed, flush
from tests.worlds.sealing.device_world import SealedWorld, sealed_policy

STEPS = ("granted", "trained", "kept", "stored", "addressed", "sent", "settled")


def _make(size: str = "small") -> SealedWorld:
    told = Evaluation(report=("loss",))
    if size == "small":
        return SealedWorld(sealed_policy(evaluation=told))
    return SealedWorld(sealed_policy(evaluation=told, compression=Compression(codec="float32")), parameters=40_000)


def _live(world: SealedWorld, folder: Path, step: str = "", *, at_ms: int = 0, outcome: str = "admitted") -> None:
    """From a start to the outcome, or to the death at `step`."""
    device = world.device(folder, profile=CrashAfter(step))
    lease = world.lease(1, device)
    with suppress(Killed):
        device.wake(at_ms)
        flush(device, at_ms)
        if not world.submitted():
            device.receive(world.grant(lease), at_ms)
        device.wake(at_ms)
        flush(device, at_ms)
        if world.submitted():
            device.receive(world.outcome(lease, outcome), at_ms)


@pytest.mark.parametrize("size", ["small", "large"])
def test_what_leaves_the_device_opens_for_its_aggregator_alone(tmp_path: Path, size: str) -> None:
    """Guarantee: neither the body nor a report is in what was sent, and the holder of the key reads both."""
    world = _make(size)
    _live(world, tmp_path)
    [update] = world.submitted()
    assert (update.metrics, update.fidelity) == ((), None)
    assert (update.inline is None) == (size == "large")
    assert world.seen(update).any()
    body, metrics = world.open(update).body, world.open(update).metrics
    assert len(metrics) == 1
    assert metrics[0] > 0
    records = [record.value or b"" for topic in ("updates", "bodies") for record in world.records(topic)]
    assert not any(body[:64] in record for record in records)


@pytest.mark.parametrize("size", ["small", "large"])
@pytest.mark.parametrize("step", STEPS)
def test_a_device_seals_once_however_often_it_dies(tmp_path: Path, size: str, step: str) -> None:
    """Guarantee: encryption draws, so that the envelope is kept: every repeat has the same bytes."""
    world = _make(size)
    _live(world, tmp_path, step)
    _live(world, tmp_path, at_ms=1_000)
    assert len({record.value for record in world.records("updates")}) == 1
    assert world.seen(world.submitted()[0]).any()
    assert world.device(tmp_path)._outbox.entries == ()


def test_a_refused_update_returns_to_the_residual(tmp_path: Path) -> None:
    """Guarantee: error feedback works as in the tier plain, because the body stays on the device as it was encoded."""
    world, plain = _make("large"), _make("large")
    _live(world, tmp_path / "refused", outcome="epoch_over")
    _live(plain, tmp_path / "admitted")
    refused = world.device(tmp_path / "refused")._outbox.residual
    admitted = plain.device(tmp_path / "admitted")._outbox.residual
    assert refused is not None
    assert admitted is not None
    assert refused - admitted == pytest.approx(world.seen(world.submitted()[0]))
    assert np.abs(refused).max() > np.abs(admitted).max()


@pytest.mark.parametrize("bad", [{"epoch": 4}, {"task": "other"}, {"deployment": bytes(16)}, None])
def test_no_key_no_update(tmp_path: Path, bad: dict[str, object] | None) -> None:
    """Guarantee: under a lease that comes without its key, or with that of another epoch or task, nothing is sent."""
    world = _make()
    device = world.device(tmp_path)
    device.wake(0)
    lease = world.lease(1, device)
    given: Granted = world.grant(lease, **(bad or {}))
    device.receive(given if bad else msgspec.structs.replace(given, epoch_key=UNSET), 0)
    device.wake(0)
    flush(device)
    assert (world.trainings, world.submitted()) == (0, [])
    assert "sealed" in device.given_up_for


@pytest.mark.parametrize(("says", "is_heard"), [("aggregator", True), ("selector", False)])
def test_a_link_passes_no_key_on_that_no_aggregator_signed(tmp_path: Path, says: str, is_heard: bool) -> None:
    """Guarantee: a selector that is taken over cannot have an update sealed to a key of its own."""
    world = SealedWorld(sealed_policy(), says=says)
    link = KafkaLink(world.log, KEY.public_key, [PHONE])
    granted = world.grant(world.lease(1, world.device(tmp_path)))
    world.append(ANSWERS.name, answer_partition(PHONE, world.log.partitions), told(granted))
    assert (link.read_answers(0) == [granted]) == is_heard
    link.close()
