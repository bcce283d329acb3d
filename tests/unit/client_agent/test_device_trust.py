"""What a device believes: answers to itself alone, and only tasks that its owner lets it train."""

from __future__ import annotations

import dataclasses
import hashlib
import sys
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from client_agent.conditions import FixedProfile
from client_agent.device import Device
from client_agent.learning.allow_list import AllowList
from schemas.canonical import encode
from schemas.events import Answer, TensorSpec
from schemas.identifiers import BodyRef
from schemas.leases import read_lease
from schemas.policy import Clipping, Training
from schemas.topics import CATALOGUE, MODELS, TASKS
from streams.log import Draft
from streams.memory import MemoryLog
from tests.worlds.builders import written
from tests.worlds.device_world import PHONE, AskingLink, World, flush, large


class Slow(FixedProfile):
    """A device that trains for ten seconds."""

    def choose_training_ms(self, lease: str, samples: int) -> int:
        return 10_000


def test_only_answers_to_its_own_check_ins_count(tmp_path: Path) -> None:
    """Guarantee: an answer that does not name a check-in of this device without an answer changes nothing."""
    world = World()
    device = world.device(tmp_path)
    before, lease = device.wake(0), world.lease(1, device)
    for checkin in (bytes(32), hashlib.sha256(b"another's").digest()):
        assert device.receive(msgspec.structs.replace(world.grant(lease), checkin_sha256=checkin), 0) == before
        assert device.receive(world.decline("closed", 1_000, checkin_sha256=checkin), 0) == before
    assert (device.declined_for, device.is_training) == ("", False)
    next_ms = device.receive(world.decline("no_slot", 1_000), 0)
    # The check-in has its answer: neither that one again nor another is an answer to it any more.
    assert device.receive(world.decline("closed", 9_000), 0) == next_ms
    assert device.receive(world.grant(lease), 0) == next_ms
    assert (device.declined_for, device.is_training) == ("no_slot", False)


def test_a_restarted_device_asks_anew(tmp_path: Path) -> None:
    """Guarantee: an answer to a check-in of an earlier life is not taken; the next one is."""
    world = World()
    device = world.device(tmp_path)
    device.wake(0)
    late = world.grant(world.lease(1, device))
    again = world.device(tmp_path)
    again.receive(late, 0)
    assert not again.is_training
    again.wake(0)
    again.receive(world.grant(world.lease(1, again)), 0)
    assert again.is_training


def test_no_answer_replaces_work_in_hand(tmp_path: Path) -> None:
    """Guarantee: with a lease at work neither another lease nor a decline changes what is trained, or when."""
    world = World()
    device = world.device(tmp_path, profile=Slow())
    lease, at_ms, older = world.lease(1, device), 0, list[Answer]()
    # Each answers a check-in of its own, and so does the lease.
    for answer in (world.grant(world.lease(2, device)), world.decline("closed", 10**15)):
        at_ms = device.wake(at_ms)
        older.append(msgspec.structs.replace(answer, checkin_sha256=world.asked[PHONE]))
    device.wake(at_ms)
    ready_ms = device.receive(world.grant(lease), at_ms)
    for answer in older:
        assert device.receive(answer, at_ms + 1_000) == ready_ms
    device.wake(ready_ms)
    flush(device)
    assert [read_lease(update.sealed) for update in world.submitted()] == [lease]


def test_an_outcome_is_of_a_record_that_was_sent(tmp_path: Path) -> None:
    """Guarantee: an outcome that does not name the very record of an update settles nothing."""
    world = large()
    device = world.device(tmp_path)
    device.wake(0)
    lease = world.lease(1, device)
    device.wake(device.receive(world.grant(lease), 0))
    # Kept, and its body not stored yet: there is no record that anybody could have admitted.
    device.receive(world.outcome(lease, "admitted", record=b""), 0)
    flush(device)
    for update in (lease, world.lease(2, device)):
        device.receive(world.outcome(update, "admitted", record=b"another"), 0)
    [entry] = device._outbox.entries
    assert entry.update == lease.lease
    device.receive(world.outcome(lease, "admitted"), 0)
    assert device._outbox.entries == ()


def test_a_wait_has_an_end(tmp_path: Path) -> None:
    """Guarantee: whatever an answer says, the device asks again within a day."""
    world = World()
    for number, reason in enumerate(("no_slot", "closed")):
        device = world.device(tmp_path / reason)
        device.wake(0)
        next_ms = device.receive(world.decline(reason, 10 ** (15 + number)), 0)  # type: ignore[arg-type]
        assert 0 < next_ms <= 86_400_000


def hostile(world: World, **changes: object) -> None:
    """The task as somebody else would have written it; its digests fit."""
    rules = msgspec.structs.replace(world.policy, **changes)
    digest = hashlib.sha256(encode(rules)).digest()
    world.created = msgspec.structs.replace(world.created, policy=rules, policy_sha256=digest)
    rewrite(world)


def rewrite(world: World) -> None:
    """A log with this creation, and the model at the same place."""
    [model] = world.records(MODELS.name)
    world.log = MemoryLog(CATALOGUE)
    world.append(MODELS.name, world.place, model.value or b"")
    world.append(TASKS.name, world.place, written(world.created))


def give_up(world: World, folder: Path, model: BodyRef | None = None, **changes: object) -> Device:
    """A device that was given a lease, and must not train."""
    device = world.device(folder)
    device.wake(0)
    lease = world.lease(1, device, **changes)
    next_ms = device.wake(device.receive(world.grant(lease, model), 0))
    device.wake(next_ms)
    device.receive(world.grant(lease, model), next_ms)
    flush(device)
    assert (world.trainings, world.submitted(), device.counts.given_up) == (0, [], 1)
    assert not device.is_training
    return device


def test_code_from_the_log_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guarantee: a model that nobody allowed here is not imported; the lease is given up, and says how to allow it."""
    world = World()
    (tmp_path / "from_the_log.py").write_text("def model(): ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    hostile(world, model="from_the_log:model")
    device = give_up(world, tmp_path)
    assert "from_the_log" not in sys.modules
    assert device.given_up_for.endswith("--allow from_the_log:model")
    # Said once when it is given up, and again where the server still takes the lease for one in flight.
    assert [report.reason for report in world.abandoned()] == ["not_allowed"] * len(world.checkins())
    # Started again as it was told, the device trains under the very lease that it has given up.
    allowed = AllowList(names=frozenset({"from_the_log:model"}))
    again = Device(AskingLink(world, [PHONE]), dataclasses.replace(world.setting(tmp_path), allowed=allowed))
    again.wake(0)
    again.wake(again.receive(world.grant(world.lease(1, again)), 0))
    assert world.trainings == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"training": Training(epochs=10**9)},
        {"clipping": Clipping(norm=1e300)},
        {"model": "client_agent.learning.models:softmax_regression:"},
        {"shards": 10**6},
    ],
)
def test_a_policy_out_of_bounds_is_not_trained(tmp_path: Path, changes: dict[str, object]) -> None:
    """Guarantee: a device checks the policy itself, whoever wrote it into the log."""
    world = World()
    hostile(world, **changes)
    assert "cannot be trained" in give_up(world, tmp_path).given_up_for


def test_a_policy_that_is_not_its_digest_is_not_trained(tmp_path: Path) -> None:
    """Guarantee: the policy that trains is the one that the lease names, not one beside its digest."""
    world = World()
    digest = world.created.policy_sha256
    hostile(world, training=Training(batch_size=7))
    world.created = msgspec.structs.replace(world.created, policy_sha256=digest)
    rewrite(world)
    assert "policy_sha256" in give_up(world, tmp_path).given_up_for


def test_memory_is_bounded_before_it_is_taken(tmp_path: Path) -> None:
    """Guarantee: a task of more parameters than a device has memory for is given up, however short its body is."""
    world = World()
    huge = 1 << 40
    flat = (TensorSpec(name="flat", shape=(huge,)),)
    world.created = msgspec.structs.replace(world.created, parameters=huge, tensors=flat)
    hostile(world)
    assert "memory" in give_up(world, tmp_path).given_up_for
    assert world.abandoned()[0].reason == "task_unfit"


def test_a_lease_with_a_number_that_nothing_holds_is_none(tmp_path: Path) -> None:
    """Guarantee: what no record may say is no lease: the device neither trains nor gives anything up."""
    world = World()
    device = world.device(tmp_path)
    device.wake(0)
    lease = world.lease(1, device, deadline_ms=(1 << 64) - 1)
    device.wake(device.receive(world.grant(lease), 0))
    assert (world.trainings, device.is_training, device.counts.given_up) == (0, False, 0)


def test_a_lease_beyond_its_policy_is_given_up(tmp_path: Path) -> None:
    """Guarantee: a selector that was taken over gives no lease that is longer than the operator's policy says."""
    device = give_up(World(), tmp_path, deadline_ms=(1 << 63) - 1)
    assert "lasts longer than its policy allows" in device.given_up_for


@pytest.mark.parametrize("changes", [{"topic": "bodies"}, {"topic": "nowhere"}, {"partition": 7}, {"size": 1 << 29}])
def test_a_model_stands_where_models_stand(tmp_path: Path, changes: dict[str, object]) -> None:
    """Guarantee: an answer makes a device read only `models`, in its task's partition, and no more than a model."""
    world = World()
    assert world.place != 7
    ref = world.created.model
    # The same bytes in the other partition, or the model would only be missing there.
    world.log.append([Draft(topic=MODELS.name, partition=7, value=world.records(MODELS.name)[0].value)])
    give_up(world, tmp_path, msgspec.structs.replace(ref, **{"offsets": (0,), **changes}))


def test_a_device_that_may_not_train_asks_ever_more_slowly(tmp_path: Path) -> None:
    """Guarantee: leases are not spent as fast as they are granted by a device that can use none of them."""
    world = World()
    hostile(world, model="from_the_log:model")
    device, at_ms, pauses = world.device(tmp_path), 0, []
    for number in range(5):
        device.wake(at_ms)
        next_ms = device.wake(device.receive(world.grant(world.lease(number, device)), at_ms))
        pauses.append(next_ms - at_ms)
        at_ms = next_ms
    assert all(one * 1.2 < other for one, other in pairwise(pauses[:4]))
