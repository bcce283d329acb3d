"""The outbox, killed between every two of its steps."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from client_agent.device import Device
from client_agent.files import DoubleBufferedFile
from client_agent.learning.layout import Model
from client_agent.learning.learner import Context
from client_agent.learning.state import decode_state
from client_agent.learning.trainer import Trained
from client_agent.outbox.outbox import GRACE_MS, Entry, OutboxError
from tests.worlds.device_world import PHONE, AskingLink, CrashAfter, Killed, World, flush, large

SMALL = ("granted", "trained", "kept", "sent", "settled")
LARGE = ("granted", "trained", "kept", "stored", "addressed", "sent", "settled")


CASES = [("small", step) for step in SMALL] + [("large", step) for step in LARGE]


def one_life(world: World, folder: Path, step: str, *, at_ms: int) -> None:
    """From a start to the outcome, or to the death at `step`."""
    device = world.device(folder, profile=CrashAfter(step))
    lease = world.lease(1, device)
    try:
        device.wake(at_ms)
        flush(device, at_ms)
        if not world.submitted():
            device.receive(world.grant(lease), at_ms)
        device.wake(at_ms)
        flush(device, at_ms)
        if world.submitted():
            device.receive(world.outcome(lease, "admitted"), at_ms)
    except Killed:
        return


@pytest.mark.parametrize(("size", "step"), CASES)
def test_killed_after_each_step(tmp_path: Path, size: str, step: str) -> None:
    """Guarantee: wherever a device dies, its next life submits the update once more with the same bytes, or is done."""
    world = World() if size == "small" else large()
    one_life(world, tmp_path, step, at_ms=0)
    kept = {entry.update: entry.body for entry in world.device(tmp_path)._outbox.entries}
    one_life(world, tmp_path, "", at_ms=1_000)
    updates = world.submitted()
    assert updates
    assert len({record.value for record in world.records("updates")}) == 1
    assert world.seen(updates[0]).any()
    if kept and updates[0].inline is not None:
        assert updates[0].inline in kept.values()
    final = world.device(tmp_path)
    assert final._outbox.entries == ()
    assert final._outbox.is_over(world.lease(1, final).lease)
    assert world.trainings == (2 if step == "trained" else 1)


@dataclass(frozen=True)
class Counting:
    """A trainer that counts its trainings in its state."""

    sample_count: int = 7

    def train(self, model: Model, context: Context) -> Trained:
        count = context.state.get("count", 0) + 1
        delta = np.full(model.vector.size, 1e-3, np.float32)
        return Trained(delta=delta, state={"count": count, "large": bytes(9_000)})


@pytest.mark.parametrize("step", SMALL)
def test_a_state_moves_on_exactly_when_its_update_is_kept(tmp_path: Path, step: str) -> None:
    """Guarantee: wherever a device dies, what its learner remembers is that of the newest update that was kept."""
    world = World()
    for number, dies_at in enumerate((step, ""), start=1):
        setting = replace(world.setting(tmp_path, profile=CrashAfter(dies_at)), trainer=Counting())
        device = Device(AskingLink(world, [PHONE]), setting)
        at_ms = 4_000_000 * number
        with suppress(Killed):
            device.wake(at_ms)
            flush(device, at_ms)
            device.wake(device.receive(world.grant(world.lease(number, device)), at_ms))
    state = world.device(tmp_path)._outbox.state
    assert state is not None
    assert decode_state(state)["count"] == 1 + (step not in ("granted", "trained"))


def test_an_update_and_the_state_that_it_leaves_are_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guarantee: no crash can fall between them, because one index names both."""
    world, writes = World(), list[bytes]()
    device = Device(AskingLink(world, [PHONE]), replace(world.setting(tmp_path), trainer=Counting()))
    device.wake(0)
    device.receive(world.grant(world.lease(1, device)), 0)
    monkeypatch.setattr(DoubleBufferedFile, "write", lambda _, data: writes.append(data))
    device.wake(0)
    assert len(writes) == 1


@pytest.mark.parametrize("step", ["addressed", "sent"])
def test_no_second_body(tmp_path: Path, step: str) -> None:
    """Guarantee: once the address of a body was kept, the body is not written again."""
    world = large()
    one_life(world, tmp_path, step, at_ms=0)
    bodies = len(world.records("bodies"))
    one_life(world, tmp_path, "", at_ms=1_000)
    assert bodies > 0
    assert len(world.records("bodies")) == bodies


def test_a_body_is_there_before_its_update(tmp_path: Path) -> None:
    """Guarantee: a large body is in the log before the record that names it, in the task's partition."""
    world = large()
    one_life(world, tmp_path, "stored", at_ms=0)
    assert world.records("bodies")
    assert world.submitted() == []
    one_life(world, tmp_path, "", at_ms=1)
    [update] = world.submitted()
    assert (update.inline, update.body.topic, update.body.partition) == (None, "bodies", world.place)
    assert update.body.is_well_formed()


def test_the_residual_is_as_old_as_the_entries(tmp_path: Path) -> None:
    """Guarantee: a death right before the update is kept leaves the residual untouched; right after, both are new."""
    world = World()
    one_life(world, tmp_path, "trained", at_ms=0)
    assert world.device(tmp_path)._outbox.residual is None
    one_life(world, tmp_path, "kept", at_ms=0)
    held = world.device(tmp_path)._outbox
    assert held.residual is not None
    assert len(held.entries) == 1


@pytest.mark.parametrize("count", [1, 2, 3])
def test_large_pieces_survive_a_death_before_the_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """Guarantee: what is written beside the index changes nothing of what the index names, until it names it."""
    world = large()
    for number in range(count):
        outbox = world.device(tmp_path)._outbox
        outbox.keep(entry(number), np.full(40_000, number, np.float32))
    before = world.device(tmp_path)._outbox
    held = [(each.update, before._read(each.body)) for each in before.entries]
    residual = before.residual
    monkeypatch.setattr(DoubleBufferedFile, "write", lambda *_: pytest.fail("the process ends here"))
    with pytest.raises(pytest.fail.Exception):
        before.keep(entry(count), np.full(40_000, count, np.float32))
    after = world.device(tmp_path)._outbox
    assert [(each.update, after._read(each.body)) for each in after.entries] == held
    np.testing.assert_array_equal(after.residual, residual)


def entry(number: int) -> Entry:
    """An update that fits into no index."""
    body = bytes([number]) * 50_000
    return Entry(update=f"u{number}", until_ms=10, sealed=b"", samples=1, codec="float32", body=body)


def test_what_is_long_past_is_forgotten(tmp_path: Path) -> None:
    """Guarantee: an update without outcome, and a finished lease, do not stay for ever; before that they stay."""
    world = World()
    one_life(world, tmp_path, "kept", at_ms=0)
    device = world.device(tmp_path)
    until_ms = device._outbox.entries[0].until_ms
    device._outbox.forget(until_ms + GRACE_MS - 1)
    assert device._outbox.entries
    device._outbox.forget(until_ms + GRACE_MS)
    assert world.device(tmp_path)._outbox.entries == ()


@pytest.mark.parametrize("content", [b"", b"\xc1", b"\x81\xa4task\xa5other"])
@pytest.mark.parametrize("is_framed", [False, True])
def test_a_foreign_file_is_named(tmp_path: Path, content: bytes, is_framed: bool) -> None:
    """Guarantee: a file that is no outbox of this task stops the device with a message that names it."""
    world = World()
    path = tmp_path / "digits.outbox"
    if is_framed:
        DoubleBufferedFile(path).write(content)
    else:
        path.write_bytes(content)
    with pytest.raises(OutboxError, match=r"digits\.outbox"):
        world.device(tmp_path)
