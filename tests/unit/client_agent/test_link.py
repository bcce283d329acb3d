"""The protocol alone carries a device: here over a link that knows no log."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from client_agent.device import Device
from client_agent.link import StoredBody, UpdateBody
from client_agent.running.loop import DeviceLoop
from schemas.events import Answer, TaskCreated
from schemas.identifiers import BodyRef
from schemas.tensors import Floats
from schemas.updates import parse_update
from tests.worlds.device_world import World, large


@dataclass
class ToyLink:
    """A transport of thirty lines: each word goes into a list, and a body is stored at once."""

    world: World
    words: list[str] = field(default_factory=list)
    submissions: list[bytes] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    _stored: list[StoredBody] = field(default_factory=list)

    def check_in(self, task: str, message: bytes) -> None:
        self.words.append("check in")
        self.world.note_checkin(message)

    def abandon(self, task: str, message: bytes) -> None:
        self.words.append("abandon")

    def store(self, body: UpdateBody) -> None:
        self.words.append("store")
        address = BodyRef(
            topic="toy", partition=0, offsets=(0,), sha256=bytes(32), size=len(body.data), codec=body.codec
        )
        self._stored.append(StoredBody(device=body.device, update=body.update, address=address))

    def submit(self, task: str, message: bytes) -> None:
        self.words.append("submit")
        self.submissions.append(message)

    def collect_stored(self) -> list[StoredBody]:
        stored, self._stored = self._stored, []
        return stored

    def send(self) -> None:
        self.words.append("send")

    def read_answers(self, timeout_s: float) -> list[Answer]:
        answers, self.answers = self.answers, []
        return answers

    def find_task(self, name: str) -> TaskCreated | None:
        self.words.append("find task")
        return self.world.created

    def fetch_model(self, created: TaskCreated, ref: BodyRef, *, size: int, timeout_s: float) -> Floats:
        self.words.append("fetch model")
        return np.zeros(created.parameters, np.float32)

    def close(self) -> None:
        self.words.append("close")


def test_a_device_says_its_sentence_over_any_link(tmp_path: Path) -> None:
    """Guarantee: a transport is one class: with these words a device checks in, trains, stores and publishes."""
    world = large()
    link, setting = ToyLink(world), world.setting(tmp_path)
    loop = DeviceLoop(link, [setting], now_ms=0)
    loop.step(0)
    lease = world.lease(1, Device(link, setting))
    link.answers = [world.grant(lease)]
    loop.step(1)
    assert link.words == ["find task", "check in", "send", "find task", "fetch model", "store", "submit", "send"]
    [submission] = link.submissions
    assert parse_update(submission).submitted.body.topic == "toy"
    link.answers = [world.outcome(lease, "admitted", record=submission)]
    loop.step(2)
    assert loop.count().admitted == 1
