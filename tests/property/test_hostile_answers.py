"""Whatever stands in `answers`, a device goes on, and loses nothing that it has to send."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from client_agent.running.loop import DeviceLoop
from schemas.events import Declined, Granted, Outcome
from schemas.identifiers import BodyRef
from schemas.leases import Lease
from schemas.policy import Policy
from schemas.tensors import Floats
from schemas.topics import ANSWERS, BODIES, MODELS, answer_partition
from tests.learners import StubTrainer, train_by_one
from tests.worlds.builders import lease_id
from tests.worlds.device_world import PHONE, TASK, AskingLink, World

DAY_MS = 86_400_000
NAME = PHONE
NUMBERS = st.integers(0, 2**63 - 1)

DIGESTS = st.binary(min_size=32, max_size=32)


@dataclass
class Life:
    """A device among answers that nobody vouches for, and a server that answers it honestly now and then."""

    folder: Path
    world: World = field(default_factory=World)
    now_ms: int = 0
    settled: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.setting = replace(self.world.setting(self.folder), trainer=StubTrainer(self._train))
        self.loop = DeviceLoop(AskingLink(self.world, [NAME]), [self.setting], now_ms=0)

    def _train(self, policy: Policy, flat: Floats, *, seed: int) -> Floats:
        # Whatever was answered, what is trained on is the task's model.
        np.testing.assert_array_equal(flat, self.world.model)
        return train_by_one(policy, flat, seed=seed)

    @property
    def outbox(self) -> set[str]:
        """The updates without an outcome."""
        device = self.loop._devices[NAME]
        return {entry.update for entry in device._outbox.entries}

    def lease(self, number: int, **changes: Any) -> Lease:
        """A lease of this device that an honest server could grant."""
        return msgspec.structs.replace(self.world.lease(number, self.loop._devices[NAME]), **changes)

    def step(self, wait_ms: int) -> None:
        """Let time pass, and look at what the device does then."""
        before, self.now_ms = self.outbox, self.now_ms + wait_ms
        self.loop.step(self.now_ms)
        stats = self.loop.count()
        assert (stats.failed, stats.error) == (0, "")
        assert self.loop._wake_ms[NAME] <= self.now_ms + DAY_MS
        # In this little time an update leaves by its own outcome alone.
        assert before - self.outbox <= self.settled


def refs(life: Life) -> st.SearchStrategy[BodyRef]:
    """Addresses: the model's own, others of the log, and nonsense."""
    own = life.world.created.model
    offsets = st.lists(NUMBERS, max_size=3).map(tuple)
    anywhere = st.builds(
        BodyRef,
        topic=st.sampled_from([MODELS.name, BODIES.name, ANSWERS.name, "nowhere", ""]),
        partition=st.integers(0, 1023),
        offsets=offsets,
        sha256=st.just(own.sha256) | DIGESTS,
        size=NUMBERS,
        codec=st.sampled_from(["float32", "", "x" * 16]),
    )
    return st.just(own) | anywhere | st.builds(lambda at: msgspec.structs.replace(own, offsets=at), offsets)


def answers(life: Life) -> st.SearchStrategy[Any]:
    """Answers of every kind; many name the check-in that they answer, as one who reads the log can."""
    asked = st.just(life.world.asked.get(NAME, bytes(32))) | DIGESTS
    sealed = [life.world.grant(life.lease(number)).sealed for number in range(6)]
    other = life.world.grant(life.lease(7, model_sha256=bytes(32), policy_sha256=bytes(32))).sealed
    reasons = st.sampled_from(["closed", "no_slot", "other_key", "participations"])
    return st.one_of(
        st.builds(
            Granted,
            device=st.just(NAME),
            checkin_sha256=asked,
            sealed=st.sampled_from([*sealed, other]) | st.binary(max_size=64),
            model=refs(life),
        ),
        st.builds(
            Declined,
            device=st.just(NAME),
            checkin_sha256=asked,
            task=st.sampled_from([TASK, "other"]),
            reason=reasons,
            retry_after_ms=NUMBERS,
        ),
        st.builds(
            Outcome,
            device=st.just(NAME),
            task=st.sampled_from([TASK, "other"]),
            update=st.sampled_from([*map(lease_id, range(6)), *sorted(life.outbox)]),
            record_sha256=DIGESTS,
            outcome=st.sampled_from(["admitted", "duplicate", "stale", "", "\x1b[2J"]),
        ),
    )


@given(data=st.data())
def test_no_answer_harms_a_device(data: st.DataObject) -> None:
    """Guarantee: no answer stops a device, keeps it away for over a day, empties its outbox, or swaps its model."""
    with tempfile.TemporaryDirectory() as folder:
        life = Life(Path(folder))
        for number in range(data.draw(st.integers(4, 12))):
            life.step(data.draw(st.sampled_from([0, 1, 5_000, 60_000])))
            match data.draw(st.sampled_from(["hostile", "hostile", "junk", "grant", "settle"])):
                case "hostile":
                    life.world.say(data.draw(answers(life)))
                case "junk":
                    life.world.append(
                        ANSWERS.name,
                        answer_partition(NAME, life.world.log.partitions),
                        data.draw(st.binary(max_size=40)),
                    )
                case "grant":
                    life.world.say(life.world.grant(life.lease(100 + number)))
                case "settle":
                    for update in sorted(life.outbox):
                        lease = life.lease(int(update, 16))
                        life.settled.add(update)
                        life.world.say(life.world.outcome(lease, "admitted"))
        life.step(1)
