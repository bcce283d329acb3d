"""One lease on a device, step by step, against a server that a test plays."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest
from structlog.testing import capture_logs

from client_agent.device import Device
from client_agent.learning.learner import derive_seed
from client_agent.schedule import ANSWER_MS, OVER_MS
from schemas.leases import Lease
from schemas.policy import Compression, Privacy
from schemas.tensors import from_grid, to_grid
from tests.learners import StubTrainer, train_by_one
from tests.worlds.builders import device_id
from tests.worlds.device_world import PHONE, TASK, AskingLink, World, flush, large, policy


def trained(world: World, device: Device, number: int = 1) -> Lease:
    """Let the device train and send under lease `number`."""
    lease = world.lease(number, device)
    device.wake(0)
    device.wake(device.receive(world.grant(lease), 0))
    flush(device)
    return lease


def test_a_device_is_light() -> None:
    """Guarantee: a device's own code loads none of the heavy libraries; they come with what it trains."""
    code = (
        "import sys, client_agent.device, client_agent.running.loop; "
        "import client_agent.running.foreground, client_agent.running.profiles; "
        "sys.exit(bool({'torch', 'ray', 'sklearn', 'actors', 'ops'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_sentence(tmp_path: Path) -> None:
    """Guarantee: check in, fetch, train, protect, compress, publish; the update says what was trained."""
    world = World()
    device = world.device(tmp_path)
    lease = trained(world, device)
    [checkin] = world.checkins()
    assert (checkin.task, checkin.device, checkin.samples) == (TASK, PHONE, 7)
    [update] = world.submitted()
    assert update.samples == 7
    assert update.body.offsets == ()
    assert update.sealed == world.grant(lease).sealed
    assert np.linalg.norm(world.seen(update)) <= world.policy.clipping.norm * 1.01
    # What clip and codec left travels with it, through the outbox.
    assert update.fidelity is not None
    assert world.trainings == 1


PRIVATE = policy(privacy=Privacy(noise_multiplier=1.0, rho_max=9.0))


def test_with_privacy_a_device_that_cannot_train_arrives_all_the_same(tmp_path: Path) -> None:
    """Zero-out adjacency leaves arrivals as they are: what the data do to training must not keep a device away."""
    world = World(PRIVATE)
    device = world.device(tmp_path)
    trained(world, device)
    again_ms = device.receive(world.outcome(world.lease(1, device), "admitted"), 10)
    left, spoilt = device._outbox.residual, np.full(world.parameters, np.nan, np.float32)
    device.setting = replace(device.setting, trainer=StubTrainer(lambda *_, seed: spoilt))
    lease = world.lease(2, device)
    device.wake(again_ms)
    device.wake(device.receive(world.grant(lease), again_ms))
    flush(device, again_ms)
    first, second = world.submitted()
    assert np.linalg.norm(world.seen(first)) > 0
    assert not world.seen(second).any()
    assert (first.fidelity, second.fidelity) == (None, None)
    assert (second.samples, second.body.codec, second.sealed) == (7, "int8", world.grant(lease).sealed)
    assert (device.counts.trained, device.counts.untrained, device.counts.given_up) == (1, 1, 0)
    # What earlier updates left over goes with the next that can be trained.
    np.testing.assert_array_equal(device._outbox.residual, left)


def test_a_lease_that_is_given_up_is_reported_until_the_server_knows(tmp_path: Path) -> None:
    """Guarantee: nobody waits for a deadline: the device says so at once, and again when the lease is granted again."""
    world = World()
    device = world.device(tmp_path)
    spoilt = np.full(world.parameters, np.nan, np.float32)
    device.setting = replace(device.setting, trainer=StubTrainer(lambda *_, seed: spoilt))
    device.wake(0)
    lease = world.lease(1, device)
    next_ms = device.wake(device.receive(world.grant(lease), 0))
    flush(device)
    [report] = world.abandoned()
    assert (report.lease, report.device, report.reason) == (lease.lease, lease.device, "not_finite")
    # The report got lost: the server takes the lease for one in flight, and answers with it.
    device.wake(next_ms)
    device.receive(world.grant(lease), next_ms)
    flush(device, next_ms)
    assert world.abandoned() == [report, report]
    assert device.counts.given_up == 1


def test_a_full_disk_gives_the_lease_up(tmp_path: Path) -> None:
    """An update that finds no room is no reason to stop for good; the slot is freed, and the next lease is tried."""
    world = large()
    device = world.device(tmp_path)
    # The slot that the body goes to is a device that is always full.
    (tmp_path / f"{TASK}.outbox.0").symlink_to("/dev/full")
    device.wake(0)
    device.wake(device.receive(world.grant(world.lease(1, device)), 0))
    flush(device)
    assert [report.reason for report in world.abandoned()] == ["no_space"]
    assert "no room" in device.given_up_for
    (tmp_path / f"{TASK}.outbox.0").unlink()
    again_ms = device.wake(100_000)
    device.wake(device.receive(world.grant(world.lease(2, device)), again_ms))
    assert device.counts.trained == 2


def test_no_second_training_for_one_lease(tmp_path: Path) -> None:
    """Guarantee: the same lease again re-sends the same bytes, before its outcome; afterwards it does nothing."""
    world = World()
    device = world.device(tmp_path)
    lease = trained(world, device)
    device.wake(device.receive(world.grant(lease), 10))
    flush(device)
    first, second = world.records("updates")
    assert first.value == second.value
    device.receive(world.outcome(lease, "admitted"), 20)
    device.wake(device.receive(world.grant(lease), 30))
    flush(device)
    assert len(world.records("updates")) == 2
    assert world.trainings == 1


def test_a_restart_keeps_the_lease_over(tmp_path: Path) -> None:
    """Guarantee: a lease that had its outcome is not trained again by the device's next life either."""
    world = World()
    device = world.device(tmp_path)
    lease = trained(world, device)
    device.receive(world.outcome(lease, "admitted"), 20)
    again = world.device(tmp_path)
    again.wake(again.receive(world.grant(lease), 30))
    assert world.trainings == 1
    assert again._outbox.entries == ()


def test_a_lost_check_in_is_repeated_ever_more_slowly(tmp_path: Path) -> None:
    """Guarantee: without an answer the device asks again, with growing pauses, and never goes silent."""
    world = World()
    device = world.device(tmp_path)
    at_ms, pauses = 0, []
    for _ in range(8):
        next_ms = device.wake(at_ms)
        pauses.append(next_ms - at_ms)
        at_ms = next_ms
    flush(device)
    assert len(world.checkins()) == 8
    assert pauses[0] < pauses[2] < pauses[4]
    assert max(pauses) <= 75_000


def test_a_selector_that_lags_is_asked_ever_more_slowly(tmp_path: Path) -> None:
    """Guarantee: a device that is given its last lease again asks less and less often; the next lease ends that."""
    world = World()
    device = world.device(tmp_path)
    lease = trained(world, device)
    next_ms, pauses = device.receive(world.outcome(lease, "admitted"), 20), []
    for _ in range(9):
        at_ms = next_ms
        device.wake(at_ms)
        next_ms = device.receive(world.grant(lease), at_ms)
        pauses.append(next_ms - at_ms)
    assert all(one * 1.5 < other for one, other in pairwise(pauses))
    assert world.trainings == 1
    fresh = world.lease(2, device)
    device.wake(next_ms)
    device.wake(device.receive(world.grant(fresh), next_ms))
    flush(device)
    next_ms = device.receive(world.outcome(fresh, "admitted"), next_ms)
    assert world.trainings == 2
    device.wake(next_ms)
    assert device.receive(world.grant(fresh), next_ms) - next_ms <= pauses[0] * 1.25


def test_a_lost_update_is_sent_again(tmp_path: Path) -> None:
    """Guarantee: without an outcome the same record goes out again, and no check-in meanwhile."""
    world = World()
    device = world.device(tmp_path)
    trained(world, device)
    device.wake(device.wake(1))
    flush(device)
    values = [record.value for record in world.records("updates")]
    assert len(values) == 2
    assert len(set(values)) == 1
    assert len(world.checkins()) == 1


def test_declined_waits(tmp_path: Path) -> None:
    """Guarantee: a declined device asks again after the time it was told, and a closed task is left alone."""
    world = World()
    device = world.device(tmp_path)
    device.wake(0)
    told = world.decline("no_slot", 1_000)
    assert 1_000 <= device.receive(told, 0) <= 1_250
    device.wake(2_000)
    assert device.receive(world.decline("closed", 1_000), 2_000) >= 2_000 + OVER_MS
    assert device.declined_for == "closed"


@pytest.mark.parametrize(
    "changes",
    [
        {"device": "other"},
        {"task": "other"},
        {"public_key": bytes(32)},
        {"model_sha256": bytes(32)},
        {"policy_sha256": bytes(32)},
    ],
)
def test_a_lease_for_something_else_is_ignored(tmp_path: Path, changes: dict[str, object]) -> None:
    """Guarantee: nothing is trained under a lease of another device, task, key, model or policy."""
    world = World()
    device = world.device(tmp_path)
    device.wake(0)
    device.wake(device.receive(world.grant(world.lease(1, device, **changes)), 0))
    flush(device)
    assert world.trainings == 0
    assert world.submitted() == []


def test_junk_in_place_of_a_seal_is_ignored(tmp_path: Path) -> None:
    """Guarantee: an answer that is no lease changes nothing."""
    world = World()
    device = world.device(tmp_path)
    before = device.wake(0)
    answer = world.grant(world.lease(1, device))
    for junk in (b"", b"\x93", answer.sealed[:-1]):
        assert device.receive(msgspec.structs.replace(answer, sealed=junk), 0) == before


def test_a_model_that_is_gone_gives_the_lease_up(tmp_path: Path) -> None:
    """Guarantee: a device without its model reports nothing, and asks again."""
    world = World()
    device = world.device(tmp_path)
    lease = world.lease(1, device)
    gone = msgspec.structs.replace(world.created.model, offsets=(999,))
    device.wake(0)
    next_ms = device.wake(device.receive(world.grant(lease, gone), 0))
    flush(device)
    assert world.submitted() == []
    assert next_ms > 0
    device.wake(next_ms)
    flush(device)
    assert len(world.checkins()) == 2


def test_not_finite_reports_nothing(tmp_path: Path) -> None:
    """Guarantee: a training that gives NaN sends nothing, and is not tried again under the same lease."""
    world = World()
    world.train = lambda *_, **__: np.full(650, np.nan, np.float32)  # type: ignore[method-assign]
    device = world.device(tmp_path)
    lease = trained(world, device)
    assert world.submitted() == []
    assert device._outbox.is_over(lease.lease)


def test_a_run_that_is_repeated_trains_alike(tmp_path: Path) -> None:
    """Guarantee: neither the random name of a lease nor a device's random key is in the seed of its training."""
    seeds = []
    for number in (1, 2):
        world = World()
        world.train = lambda _, flat, *, seed: seeds.append(seed) or np.zeros_like(flat)  # type: ignore[method-assign]
        device = world.device(tmp_path / f"{number}")
        lease = trained(world, device, number)
        assert f"{number}" in lease.lease
    assert seeds[0] == seeds[1]


def test_a_refused_residual_comes_back(tmp_path: Path) -> None:
    """Guarantee: after a refusal all that was sent is in the residual again; after an admission only what was lost."""
    world = World(policy(compression=Compression(codec="topk", topk_fraction=0.05)))
    device = world.device(tmp_path)
    lease = trained(world, device)
    seed = derive_seed(world.policy, device.setting.identity.label, version=lease.version)
    whole = train_by_one(world.policy, world.model, seed=seed)
    seen = world.seen(world.submitted()[0])
    np.testing.assert_allclose(device._outbox.residual, whole - seen, atol=1e-7)
    device.receive(world.outcome(lease, "stale"), 20)
    np.testing.assert_allclose(device._outbox.residual, whole, atol=1e-7)
    second = trained(world, device, 2)
    kept = device._outbox.residual
    device.receive(world.outcome(second, "admitted"), 30)
    np.testing.assert_array_equal(device._outbox.residual, kept)


def test_an_old_lease_is_not_trained(tmp_path: Path) -> None:
    """Guarantee: a device that was away past its deadline does not train for nothing."""
    world = World()
    device = world.device(tmp_path)
    device.wake(0)
    device.receive(world.grant(world.lease(1, device)), 0)
    device.wake(world.policy.lease_ms + 1)
    assert world.trainings == 0


def test_training_that_outlasts_its_lease_is_told(tmp_path: Path) -> None:
    """Guarantee: a line compares the two times, the late update is counted, and the next lease is asked for later."""
    world = World()
    link, clock = AskingLink(world, ["phone"]), [0]

    def slow(*given: object, seed: int) -> np.ndarray:
        clock[0] += 3 * world.policy.lease_ms
        return train_by_one(*given, seed=seed)  # type: ignore[arg-type]

    device = Device(link, replace(world.setting(tmp_path), trainer=StubTrainer(slow), clock_ms=lambda: clock[0]))
    with capture_logs() as lines:
        for number in (1, 2, 3):
            lease = world.lease(number, device)
            clock[0] = max(clock[0], device.wake(clock[0]))
            device.wake(clock[0])
            device.wake(device.receive(world.grant(lease), clock[0]))
            flush(device)
            next_ms = device.receive(world.outcome(lease, "expired"), clock[0])
    told = [line for line in lines if line["event"] == "training_outlasts_lease"]
    lease_s = world.policy.lease_ms / 1000
    assert [(line["training_s"], line["lease_s"]) for line in told] == [(3 * lease_s, lease_s)] * 3
    assert device.counts.late == 3
    assert next_ms - clock[0] >= 4 * ANSWER_MS


def test_one_download_for_many_devices(tmp_path: Path) -> None:
    """Guarantee: the devices of a process fetch a model once, and keep a bounded number of them."""
    world = World()
    link = AskingLink(world, [device_id("a"), device_id("b")])
    devices = [Device(link, world.setting(tmp_path / name, name=name)) for name in ("a", "b")]
    for device in devices:
        device.wake(0)
        device.wake(device.receive(world.grant(world.lease(1, device)), 0))
    assert len(link._models) == 1
    link.send()
    assert len(world.submitted()) == 2
    assert from_grid(to_grid(world.model, world.policy.clipping), world.policy.clipping).size == 650
