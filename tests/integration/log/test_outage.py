"""A broker that is away for long: workers wait and say so, devices keep their outboxes, and then it goes on."""

from __future__ import annotations

import json
import os
import threading
import time
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client_agent.identity import open_identity
from client_agent.links.kafka import KafkaLink
from client_agent.outbox.outbox import Outbox
from client_agent.running.loop import DeviceLoop
from client_agent.setting import DeviceSetting
from ops.processes import broker
from schemas.policy import Policy
from streams.kafka.log import KafkaLog
from streams.kafka.settings import KafkaSettings
from tests.learners import StubTrainer
from tests.places import home_of
from tests.worlds.builders import ALLOWED, policy
from tests.worlds.scripted_fleet import Fleet, Habits
from tests.worlds.stage import ACTORS, Worker, say, staged

TASK = "task"
PARTITION = home_of(TASK)
# Longer than anything waits for a broker by itself: an append 30 s, a commit 20 s, a group 8 s.
AWAY_S = float(os.environ.get("OUTAGE_SECONDS", "35"))


def rules() -> Policy:
    """A private task whose leases outlast the outage."""
    return policy(
        selection={"devices_expected": 10, "concurrency": 8, "retry_after_s": 0.3, "lease_s": 120 + AWAY_S},
        compression={"codec": "int8"},
        privacy={"noise_multiplier": 100.0, "rho_max": 1.0},
        stop={"versions_max": 5_000},
    )


class Phone:
    """One real device: its own outbox on disk, its own loop and connection, one training that lasts until told."""

    def __init__(self, kafka: KafkaSettings, folder: Path, *, operator: bytes) -> None:
        folder.mkdir()
        self.folder, self.identity = folder, open_identity(folder, "phone")
        self.trains, self.done, self.heard = threading.Event(), threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._live, args=(kafka, operator), name="phone")
        self._thread.start()

    def kept(self) -> int:
        """Updates on its disk that have no outcome yet, as another process would find them."""
        return len(Outbox(self.folder, TASK, identity=self.identity).entries)

    def end(self) -> None:
        self.done.set()
        self.heard.set()
        self._thread.join()

    def _train(self, _: Policy, flat: Any, *, seed: int) -> Any:
        self.trains.set()
        self.done.wait()
        return np.random.default_rng(seed).normal(0, 1e-2, flat.size).astype(np.float32)

    def _live(self, kafka: KafkaSettings, operator: bytes) -> None:
        setting = DeviceSetting(
            task=TASK,
            identity=self.identity,
            folder=self.folder,
            trainer=StubTrainer(self._train),
            allowed=ALLOWED,
        )
        with closing(KafkaLog(kafka)) as log, closing(KafkaLink(log, operator, [self.identity.device])) as link:
            loop = DeviceLoop(link, [setting], now_ms=_now_ms())
            while not self.heard.is_set():
                loop.step(_now_ms(), 0.2)
                if loop.count().admitted:
                    self.heard.set()


@pytest.mark.timeout(300)
def test_an_outage_is_waited_for(kafka_settings: KafkaSettings, broker_folder: Path, tmp_path: Path) -> None:
    """Law 3: outside a transaction a lost broker is waited for; logs and metrics say so; outboxes are kept."""
    with staged(kafka_settings, tmp_path) as stage:
        stage.create_task(TASK, rules(), parameters=40)
        workers = stage.start(*ACTORS)
        phone = Phone(kafka_settings, tmp_path / "phone", operator=stage.key.public_key)
        try:
            with Fleet(kafka_settings, TASK, rules(), 40, 8, habits=Habits(again=0.2)) as devices:
                stage.until_version(TASK, 2)
                assert phone.trains.wait(60)
                broker.crash(broker_folder)
                phone.done.set()
                stage.until(lambda: phone.kept() == 1, "an update in the outbox", timeout_s=90)
                time.sleep(AWAY_S)
                starts = [worker.starts for worker in workers]
                gone = [_metrics(worker) for worker in workers]
                broker.start(broker_folder)
                back_s, version = time.monotonic(), stage.version(TASK)
                stage.until_version(TASK, version + 3, timeout_s=120)
                say(f"recovered {time.monotonic() - back_s:.1f} s after the broker's return, at version {version}")
                assert phone.heard.wait(90), stage.tails()
                assert phone.kept() == 0
                assert stage.tails().count("most recent call first") >= len(workers), "what a failure would show"
                devices.rest(90)
        finally:
            phone.end()
        stage.until_lawful(PARTITION)
        say(stage.report(PARTITION), "starts", starts, [worker.starts for worker in workers])
        for worker, found, started in zip(workers, gone, starts, strict=True):
            assert found["fedlog_broker_available"] == 0
            assert found["fedlog_broker_silent_seconds"] > 5
            assert started <= 2, "a worker that was committing ends once, and its next life waits"
            _judge(worker)


def _judge(worker: Worker) -> None:
    """One line when the broker goes and one when it is back, in each life that saw it, and none of the clients' own."""
    lines = worker.log_file.read_text(errors="replace").splitlines()
    told = [json.loads(line) for line in lines if line.startswith("{") and '"event": "broker_' in line]
    events = [line["event"] for line in told]
    assert 1 <= events.count("broker_away") <= worker.starts, lines[-40:]
    assert events[-1] == "broker_back"
    assert told[-1]["away_s"] > 5
    spam = [line for line in lines if any(word in line for word in ("Connect attempt", "Unable connect", "NotLeader"))]
    assert not spam, spam[:3]


def _metrics(worker: Worker) -> dict[str, float]:
    """What the worker's newest life tells Prometheus."""
    lines = [line for line in worker.log_file.read_text().splitlines() if '"event": "metrics"' in line]
    port = json.loads(lines[-1])["port"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as page:
        rows = [line.rsplit(" ", 1) for line in page.read().decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in rows}


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
