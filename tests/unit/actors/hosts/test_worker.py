"""What a worker process begins with."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from typing import Any

import pytest

from actors.expiry import KeyExpired
from actors.hosts import worker
from actors.hosts.worker import WorkerOptions, start_worker
from schemas.topics import ROUNDS
from streams.kafka.settings import KafkaSettings
from streams.log import LogUnavailable, TopicUnfit
from streams.retry import Outage
from tests.root import ROOT
from tests.worlds.builders import role_key


class Cluster:
    """A log whose broker answers the third question, and may have topics that do not fit."""

    def __init__(self, error: Exception | None = None) -> None:
        self.outage, self.questions, self._error = Outage("nowhere:1"), 0, error

    def check_topics(self, topics: object) -> None:
        """Answer at last."""
        self.questions += 1
        if self.questions < 3:
            raise LogUnavailable("away")
        if self._error is not None:
            raise self._error

    def bounds(self, at: object) -> None:
        """Nobody looks at the answer."""


@pytest.fixture
def options() -> WorkerOptions:
    """With the key of a role."""
    return WorkerOptions(kafka=KafkaSettings(bootstrap_servers="nowhere:1"), key=role_key("aggregator"))


def start(options: WorkerOptions, cluster: Any, monkeypatch: pytest.MonkeyPatch) -> worker.Worker:
    """Start it against that cluster."""
    monkeypatch.setattr(worker, "KafkaLog", lambda settings, **named: cluster)
    monkeypatch.setattr("streams.retry.time.sleep", lambda seconds: None)
    monkeypatch.setattr(worker, "keep_asking", lambda question: None)
    return start_worker(options, topic=ROUNDS.name)


def test_a_broker_that_is_away_is_waited_for(options: WorkerOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers and broker may be started in any order."""
    cluster = Cluster()
    start(options, cluster, monkeypatch)
    assert cluster.questions == 3


def test_a_key_that_is_over_starts_nothing(options: WorkerOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    """A selector that nobody believes would grant leases that every device trains for in vain."""
    cluster = Cluster()
    with pytest.raises(KeyExpired):
        start(dataclasses.replace(options, key=role_key("aggregator", until_ms=1)), cluster, monkeypatch)
    assert cluster.questions == 0


def test_prometheus_sees_when_the_key_runs_out(options: WorkerOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    """An alarm can be set on it, in Unix time."""
    lasting = dataclasses.replace(options, key=role_key("aggregator", until_ms=4_000_000_000_500))
    registry = start(lasting, Cluster(), monkeypatch).metrics.instruments.registry
    assert registry.get_sample_value("fedlog_certificate_expires_seconds") == 4_000_000_000.5


def test_a_topic_that_does_not_fit_is_refused(options: WorkerOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deadlines compare append times: without those nothing may be decided (law 10)."""
    with pytest.raises(TopicUnfit):
        start(options, Cluster(TopicUnfit("rounds has CreateTime")), monkeypatch)


_ENDS = """
import sys, threading, time
from actors.hosts.worker import run_to_end
threading.Thread(target=time.sleep, args=(600,)).start()
sys.stdout.write("said, ")
run_to_end(lambda: sys.exit(3), finish=lambda: sys.stdout.write("finished"))
"""


def test_a_worker_ends_at_once_when_all_is_done() -> None:
    """With its exit code, and with all that it has said; threads of libraries hold it back no longer."""
    done = subprocess.run([sys.executable, "-c", _ENDS], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (3, "said, finished"), done.stderr
