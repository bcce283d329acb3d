"""Whatever a device sends: each record is an outcome or a counted drop with its offset, and no worker stops."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import zstandard
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from kafka import KafkaProducer

from schemas.canonical import decode, encode
from schemas.devices import tag_public_key
from schemas.events import (
    DeviceCheckedIn,
    Granted,
    InputsDropped,
    UpdateAdmitted,
    UpdateRefused,
    UpdatesDeclined,
    UpdateSubmitted,
)
from schemas.identifiers import BodyRef
from schemas.leases import read_lease
from schemas.policy import Policy
from schemas.signing import parse_signed, sign
from schemas.tensors import encode_update
from schemas.topics import BODIES, CHECKINS, UPDATES
from streams.bodies import store
from streams.kafka.settings import KafkaSettings
from streams.log import Draft, TopicPartition, scan
from tests.judges.logbook import read
from tests.places import PARTITIONS, home_of
from tests.worlds.builders import device_checked_in, policy, signed, update_submitted
from tests.worlds.federation import ScriptedDevice
from tests.worlds.scripted_fleet import Fleet, Habits
from tests.worlds.stage import ACTORS, Stage, say, staged

TASK = "task"
PARTITION = home_of(TASK)
PARAMETERS = 40
SEED = int(os.environ.get("JUNK_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)
YEAR_2099_MS = 4_070_908_800_000
LARGE = 590_000
ONES = np.ones(PARAMETERS, np.float32)


def rules() -> Policy:
    """No privacy, so that every bad body shows its reason; slots for all that will be spoilt."""
    return policy(
        selection={"devices_expected": 60, "concurrency": 60, "retry_after_s": 0.2, "lease_s": 120.0},
        stop={"versions_max": 1_000},
    )


def _bomb(size: int) -> bytes:
    return zstandard.ZstdCompressor(level=1).compress(bytes(size))


def _unsized_bomb(size: int) -> bytes:
    return zstandard.ZstdCompressor(level=1, write_content_size=False).compress(bytes(size))


GOOD = encode_update(ONES, rules())
SPOILT: dict[str, tuple[bytes, str]] = {
    "random bytes": (bytes(range(200)), "body_malformed"),
    "a truncated frame": (GOOD[:-3], "body_malformed"),
    "two frames": (GOOD + GOOD, "body_malformed"),
    "a bomb that says its size": (_bomb(200_000_000), "body_shape"),
    "a bomb that says nothing": (_unsized_bomb(100_000_000), "body_shape"),
    "another shape": (encode_update(np.ones(39, np.float32), rules()), "body_shape"),
    "NaN": (encode_update(ONES * np.nan, rules()), "not_finite"),
    "infinity": (encode_update(ONES * np.inf, rules()), "not_finite"),
    "beyond the grid": (encode_update(ONES * 1e9, rules()), "out_of_grid"),
}

ABSENT = ("past the end", "the largest offset", "other content", "another size", "another partition")


def _is_any(found: str, expected: str) -> bool:
    """Two names for one fault are as good, where a frame is wrong in two ways."""
    return found == expected or {found, expected} == {"body_malformed", "body_shape"}


class Sender:
    """Signs and appends what no honest device would; remembers the offset of each and what must become of it."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.made = stage, 0
        self.expected: dict[int, str] = {}
        self.dropped: dict[str, list[int]] = {UPDATES.name: [], CHECKINS.name: []}

    def leased(self, count: int) -> list[tuple[ScriptedDevice, Granted]]:
        """New devices, each with a lease."""
        names = [f"sender-{self.made + number}" for number in range(count)]
        self.made += count
        devices = [ScriptedDevice(name, self.stage.log, task=TASK, deployment=self.stage.deployment) for name in names]
        for device in devices:
            device.check_in()
        self.stage.until(
            lambda: all(any(isinstance(a, Granted) for a in device.answers()) for device in devices),
            "leases for all senders",
            timeout_s=60,
        )
        return [(device, device.granted()) for device in devices]

    def junk(self, topic: str, value: bytes) -> int:
        """Bytes that are to be counted and dropped."""
        [offset] = self.stage.log.append([Draft(topic=topic, partition=PARTITION, value=value)])
        self.dropped[topic].append(offset)
        return offset

    def update(self, lease: tuple[ScriptedDevice, Granted], outcome: str, **changes: Any) -> int:
        """An update whose parts are as told, with its signature."""
        device, granted = lease
        offset = device.append(UPDATES.name, sign(encode(submission(granted, **changes)), device.key))
        self.expected[offset] = outcome
        return offset


def submission(granted: Granted, *, inline: bytes | None = GOOD, body: BodyRef | None = None) -> UpdateSubmitted:
    """An update under this lease."""
    return update_submitted(granted.sealed, body or (inline or b""), task=TASK)


def checkin_of(device: ScriptedDevice) -> DeviceCheckedIn:
    """An honest check-in, not signed; it was sent long ago."""
    return device_checked_in(device.id, task=TASK, public_key=tag_public_key(device.key))


def _bodies(stage: Stage) -> dict[str, BodyRef]:
    """Refs that no honest device sends."""
    at = TopicPartition(BODIES.name, PARTITION)
    ref = store(stage.log, at, data=GOOD, upload_id="x", codec="float32")
    other = store(stage.log, at, data=GOOD[::-1], upload_id="y", codec="float32")
    change = msgspec.structs.replace
    return {
        "past the end": change(ref, offsets=(10**12,)),
        "the largest offset": change(ref, offsets=(2**63 - 1,)),
        "other content": change(ref, offsets=other.offsets),
        "another size": change(ref, size=ref.size + 1),
        "too many offsets": change(ref, offsets=tuple(range(4096))),
        "no offsets": change(ref, offsets=()),
        "another partition": change(ref, partition=(PARTITION + 1) % PARTITIONS),
        "another topic": change(ref, topic="models"),
        "no topic at all": change(ref, topic="../../etc"),
        "huge": change(ref, size=1 << 40),
        "another codec": change(ref, codec="int8"),
    }


def _send_spoilt_bodies(sender: Sender) -> None:
    leases = sender.leased(len(SPOILT) + 11)
    for data, fault in SPOILT.values():
        sender.update(leases.pop(), fault, inline=data)
    for name, ref in _bodies(sender.stage).items():
        sender.update(leases.pop(), "body_absent" if name in ABSENT else "body_malformed", inline=None, body=ref)


def _send_wrong_leases(sender: Sender) -> None:
    """Another device's lease, forged ones, none at all, a signature by nobody; and one update twice."""
    (device, granted), (_, others), good = sender.leased(3)
    stranger = Ed25519PrivateKey.generate()
    sender.junk(UPDATES.name, sign(encode(submission(others)), device.key))
    sender.junk(UPDATES.name, sign(encode(submission(granted)), stranger))
    forged = bytearray(granted.sealed)
    forged[len(forged) // 2] ^= 1
    for sealed in (bytes(forged), b"", b"\x00" * 1024, granted.sealed + b"\x00"):
        fake = msgspec.structs.replace(submission(granted), sealed=sealed)
        sender.junk(UPDATES.name, sign(encode(fake), device.key))
    longer = msgspec.structs.replace(read_lease(granted.sealed), deadline_ms=YEAR_2099_MS)
    resealed = encode([encode(longer), bytes(32)])
    sender.junk(UPDATES.name, sign(encode(msgspec.structs.replace(submission(granted), sealed=resealed)), device.key))
    message = parse_signed(sign(encode(submission(granted)), device.key))
    sender.junk(UPDATES.name, encode([message.payload[:-1] + b"\x00", message.signature]))
    sender.update(good, "admitted")
    sender.update(good, "duplicate")
    sender.update(good, "duplicate", inline=encode_update(ONES * 3, rules()))


def _send_bytes(sender: Sender, chance: random.Random) -> None:
    """Random and truncated bytes, and records of 600 KB, in both topics."""
    [(device, granted)] = sender.leased(1)
    update = sign(encode(submission(granted)), device.key)
    checkin = signed(checkin_of(device), device.key, deployment=sender.stage.deployment)
    for topic, honest in ((UPDATES.name, update), (CHECKINS.name, checkin)):
        for _ in range(40):
            sender.junk(topic, chance.randbytes(chance.randrange(0, 300)) + b"\xc1")
            sender.junk(topic, honest[: chance.randrange(1, len(honest))])
        for value in (bytes(LARGE), b"\x93" * LARGE, honest + bytes(LARGE), b"\xdd\xff\xff\xff\xff", b"\x81" * 5_000):
            sender.junk(topic, value)
    for changes in ({"samples": -1}, {"battery_percent": 101}, {"device": "../x"}, {"cohort": "ä" * 99}, {"idle": 2}):
        plain = msgspec.to_builtins(checkin_of(device), builtin_types=(bytes,)) | changes
        sender.junk(CHECKINS.name, sign(encode(plain), device.key))


def _send_from_2099(sender: Sender) -> None:
    """A client's own timestamp counts for nothing: append time wins, and no deadline passes for anybody."""
    device = ScriptedDevice("time-traveller", sender.stage.log, task=TASK, deployment=sender.stage.deployment)
    checkin = signed(checkin_of(device), device.key, deployment=sender.stage.deployment)
    producer = KafkaProducer(**sender.stage.kafka.client())
    try:
        for topic in (UPDATES.name, CHECKINS.name):
            value = b"junk" if topic == UPDATES.name else checkin
            sent = producer.send(
                sender.stage.kafka.add_prefix(topic), value, partition=PARTITION, timestamp_ms=YEAR_2099_MS
            ).get(timeout=60)
            if topic == UPDATES.name:
                sender.dropped[topic].append(sent.offset)
            at = TopicPartition(topic, PARTITION)
            [record] = [r for r in scan(sender.stage.log, at, start=sent.offset) if r.offset == sent.offset]
            assert record.time_ms < YEAR_2099_MS
    finally:
        producer.close(timeout=5)


@pytest.mark.timeout(240)
def test_junk_is_an_outcome_or_a_counted_drop(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    """Law 9: nothing that a device sends stops an actor or goes uncounted, and an honest round completes after it."""
    say(f"repeat with: JUNK_SEED={SEED} pytest tests/integration/faults/test_junk.py")
    with staged(kafka_settings, tmp_path) as stage:
        stage.create_task(TASK, rules(), parameters=PARAMETERS)
        workers = stage.start(*ACTORS)
        stage.until_version(TASK, 0)
        sender = Sender(stage)
        steps: list[Callable[[], None]] = [
            lambda: _send_spoilt_bodies(sender),
            lambda: _send_wrong_leases(sender),
            lambda: _send_bytes(sender, random.Random(SEED)),
            lambda: _send_from_2099(sender),
        ]
        random.Random(SEED).shuffle(steps)
        for step in steps:
            step()
        with Fleet(kafka_settings, TASK, rules(), PARAMETERS, 8, habits=Habits(rest_s=0.1)) as devices:
            stage.until_version(TASK, 3)
            devices.rest()
        assert [(worker.starts, worker.is_supervised) for worker in workers] == [(1, True)] * 3, stage.tails()
        stage.until_lawful(PARTITION)
        assert stage.said('"defect"') == 0, stage.tails()
        _compare(stage, sender)
        say(stage.report(PARTITION))


def _compare(stage: Stage, sender: Sender) -> None:
    """Each planted record against what the journals say of its offset."""
    book = read(stage.log, PARTITION)
    found: dict[int, str] = {}
    for decision in book.rounds.decisions:
        for event in decision.events:
            if decision.topic == UPDATES.name and isinstance(event, UpdateAdmitted | UpdateRefused):
                found[decision.offset] = "admitted" if isinstance(event, UpdateAdmitted) else event.reason
    repeats = [offset for offset, expected in sender.expected.items() if expected == "duplicate"]
    own = {offset: expected for offset, expected in sender.expected.items() if expected != "duplicate"}
    differing = {o: (found.get(o), e) for o, e in own.items() if not _is_any(found.get(o, ""), e)}
    assert not differing, differing
    assert not found.keys() & set(repeats)
    assert sum(event.counts.get("duplicate", 0) for event in book.rounds.events(UpdatesDeclined)) >= len(repeats)
    assert not found.keys() & set(sender.dropped[UPDATES.name])
    for journal, topic in ((book.rounds, UPDATES.name), (book.selections, CHECKINS.name)):
        drops = [event for event in journal.events(InputsDropped) if event.topic == topic]
        assert sum(event.count for event in drops) == len(sender.dropped[topic])
        for offset in sender.dropped[topic]:
            assert any(drop.first_offset <= offset <= drop.last_offset for drop in drops)
    assert decode(encode(book.rounds.events(InputsDropped)[0]), InputsDropped).count > 0
