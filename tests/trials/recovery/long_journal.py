"""A journal of any length, made quickly: the real selector, driven by calls, decides invented check-ins.

Each check-in is one decision, a lease granted; after 20,000 of them log time passes, and ticks expire the leases, a
thousand a decision. Append times are invented (log time may run minutes ahead) and signatures left out; journal, chain,
digests and positions are as ever.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice

import msgspec

from actors.deciders.selecting.state import Selections
from actors.deciders.selector import EXPIRED_AT_ONCE_MAX, GRACE_MS, SELECTOR, SelectorInput
from actors.hosts.assembly import assemble
from actors.runtime.actor import Actor
from actors.runtime.effects import Arrival, Effects
from actors.runtime.role import Role
from actors.wiring import AGGREGATOR_ROLE, SELECTOR_ROLE
from schemas.canonical import decode, encode
from schemas.events import DeviceCheckedIn, Tick
from schemas.policy import Policy
from schemas.topics import CHECKINS
from streams.log import Draft, EventLog, Record, TopicPartition, scan
from tests.places import home_of
from tests.worlds.builders import device_checked_in, policy
from tests.worlds.stage import Stage

TASK = "long"
PARTITION = home_of(TASK)
DEVICES = 20_000
LEASE_S = 1.0
AT_ONCE = 10_000


class UnsignedCheckins(Effects[Selections, SelectorInput]):
    """Takes check-ins without their signature, and answers nobody."""

    def read(self, state: Selections, record: Record) -> Arrival:
        return Arrival(decode(record.value or b"", DeviceCheckedIn | Tick))  # type: ignore[arg-type]


def rules() -> Policy:
    """Every device may hold a lease at the same time, and loses it soon."""
    return policy(selection={"devices_expected": DEVICES, "concurrency": 2 * DEVICES, "lease_s": LEASE_S})


def fill(stage: Stage, decisions: int) -> None:
    """Create the task, and write the selector's journal up to so many decisions, or one more to notice the task."""
    stage.create_task(TASK, rules(), parameters=4)
    aggregator = assemble("aggregator", PARTITION, log=stage.log, key=stage.role_key("aggregator"))
    _feed(stage.log, aggregator, AGGREGATOR_ROLE)
    key, effects = stage.role_key("selector"), UnsignedCheckins()
    selector = Actor(SELECTOR_ROLE, PARTITION, log=stage.log, decider=SELECTOR, effects=effects, key=key)
    _feed(stage.log, selector, SELECTOR_ROLE)
    story = islice(_story(round(time.time() * 1000)), decisions)
    while inputs := list(islice(story, AT_ONCE)):
        # The worker goes on where these end, so that a record must stand at each of their offsets.
        marks = [Draft(topic=CHECKINS.name, partition=PARTITION, value=encode(Tick()))] * len(inputs)
        offsets = stage.log.append(marks)
        selector.handle(
            [
                Record(CHECKINS.name, PARTITION, offset, time_ms, None, value)
                for offset, (time_ms, value) in zip(offsets, inputs, strict=True)
            ]
        )
        selector.work()
    selector.close()


def _feed(log: EventLog, actor: Actor[object], role: Role) -> None:
    """Open the actor and let it decide what its inputs hold so far."""
    actor.open()
    for topic in role.inputs:
        actor.handle(list(scan(log, TopicPartition(topic, PARTITION))))


def _story(began_ms: int) -> Iterator[tuple[int, bytes]]:
    """Append times and check-ins or ticks without end; each input causes one decision."""
    checkins = [_checkin(number) for number in range(DEVICES)]
    now_ms = began_ms
    while True:
        for checkin in checkins:
            # Sent as it arrives: one that is old, or came before, decides nothing.
            yield now_ms, encode(msgspec.structs.replace(checkin, sent_ms=now_ms))
        now_ms += rules().lease_ms + GRACE_MS + 1
        for _ in range(DEVICES // EXPIRED_AT_ONCE_MAX):
            yield now_ms, encode(Tick())


def _checkin(number: int) -> DeviceCheckedIn:
    return device_checked_in(f"device-{number}", task=TASK, public_key=number.to_bytes(34))
