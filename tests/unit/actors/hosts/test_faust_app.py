"""Faust as a carrier: what it is asked for in its own words, what it never loads, and that it leaves nothing behind."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiokafka
import pytest
from faust.types import TP
from structlog.testing import capture_logs

from actors.hosts.faust_app import FaustCarrier
from actors.hosts.worker import WorkerOptions
from actors.wiring import PRIVACY_ROLE, SELECTOR_ROLE
from streams.kafka.settings import KafkaSettings
from streams.log import Record, TopicPartition
from tests.worlds.builders import role_key

OPTIONS = WorkerOptions(kafka=KafkaSettings(bootstrap_servers="nowhere:1", topic_prefix="fl"), key=role_key("selector"))


class Consumer:
    """Faust's consumer as a carrier meets it."""

    def __init__(self, *assigned: TP) -> None:
        self.assigned, self.sought, self.is_lost = set(assigned), [], False

    def assignment(self) -> set[TP]:
        """What is ours."""
        return self.assigned

    async def seek(self, tp: TP, offset: int) -> None:
        """Note it once it is awaited."""
        if self.is_lost:
            raise aiokafka.errors.IllegalStateError(f"No current assignment for partition {tp}")
        self.sought.append((tp, offset))


@pytest.fixture
def consumer(monkeypatch: pytest.MonkeyPatch) -> Consumer:
    """In the place of that of every app."""
    found = Consumer(TP("fl.checkins", 3), TP("fl.rounds", 3), TP("fl.rounds", 4), TP("other.rounds", 5))
    monkeypatch.setattr("faust.App.consumer", found)
    return found


@pytest.mark.usefixtures("consumer")
def test_assigned_topics_are_named_without_their_prefix() -> None:
    """A topic that is no input of ours counts for nothing."""
    found = FaustCarrier(SELECTOR_ROLE, OPTIONS).find_assigned()
    assert found == {3: {"checkins", "rounds"}, 4: {"rounds"}}


def test_a_seek_is_awaited(consumer: Consumer) -> None:
    """Faust's seek is a coroutine: without the await nothing happens but a warning."""
    carrier = FaustCarrier(SELECTOR_ROLE, OPTIONS)
    asyncio.run(carrier.seek(TopicPartition("rounds", 3), 7))
    assert consumer.sought == [(TP("fl.rounds", 3), 7)]


def test_a_seek_of_a_lost_partition_does_nothing(consumer: Consumer) -> None:
    """The end of the rebalance that took it away seeks again if it comes back."""
    consumer.is_lost = True
    asyncio.run(FaustCarrier(SELECTOR_ROLE, OPTIONS).seek(TopicPartition("rounds", 3), 7))


def test_the_reason_of_a_death_is_told_once() -> None:
    """Faust ends the process and keeps its consumer's error to itself; each of its services passes it on."""
    app, reason = FaustCarrier(SELECTOR_ROLE, OPTIONS).app, ValueError("a codec that is not here")
    with capture_logs() as lines:
        for _ in range(3):
            app._crash(reason)
    [line] = lines
    assert (line["event"], line["actor"], line["error"]) == ("consumer_died", "selector", repr(reason))
    assert app.crash_reason is reason


def test_events_are_delivered_unacknowledged() -> None:
    """An event's own acknowledgement goes along, and is called by nobody but the host."""
    acknowledged: list[int] = []

    class Stream:
        def noack(self) -> Stream:
            return self

        async def events(self) -> Any:
            for offset in (7, 8):
                message = SimpleNamespace(
                    topic="fl.rounds", partition=3, offset=offset, timestamp=1.5, key=None, value=b"x"
                )
                yield SimpleNamespace(message=message, ack=lambda offset=offset: acknowledged.append(offset))

    async def received() -> list[Record]:
        carrier = FaustCarrier(PRIVACY_ROLE, OPTIONS)
        await carrier._receive(Stream())
        deliveries = await carrier.inbox.drain()
        assert acknowledged == []
        deliveries[1].acknowledge()
        return [each.record for each in deliveries]

    assert asyncio.run(received()) == [Record("rounds", 3, offset, 1_500, None, b"x") for offset in (7, 8)]
    assert acknowledged == [8]


def test_workers_start_without_heavy_libraries() -> None:
    """Importing the workers' host in a fresh interpreter loads neither torch nor ray nor scikit-learn."""
    program = "import sys, actors.hosts.faust_app; print(*{'torch', 'ray', 'sklearn'} & set(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert loaded.stdout.split() == []


def test_a_start_leaves_no_folder_behind(tmp_path: Path) -> None:
    """Workers end by SIGKILL and start again for months: what each start left would add up."""
    program = f"""
import asyncio, os, tempfile
from pathlib import Path
from actors.hosts import faust_app
from actors.hosts.worker import WorkerOptions
from actors.keys import OperatorKey
from actors.wiring import ROLES
from streams.kafka.settings import KafkaSettings
os.chdir({str(tmp_path)!r})
tempfile.tempdir = {str(tmp_path)!r}
key = OperatorKey(bytes(32)).issue("aggregator", bytes(16), until_ms=1 << 60)
options = WorkerOptions(kafka=KafkaSettings(bootstrap_servers="localhost:1"), key=key)
async def start():
    await faust_app.make_app(ROLES["aggregator"], options).on_first_start()
asyncio.run(start())
"""
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    assert [*tmp_path.iterdir()] == []


_ASKS_ITSELF = """
import asyncio, faulthandler, faust, os, signal
from actors.hosts.faust_app import FaustWorker
faulthandler.register(signal.SIGUSR1)
worker = FaustWorker(faust.App("x"), loop=asyncio.new_event_loop())
worker.install_signal_handlers()
os.kill(os.getpid(), signal.SIGUSR1)
print("goes on")
"""


def test_a_worker_under_faust_shows_where_it_waits() -> None:
    """Faust takes SIGUSR1 for a dump of its own, which an event loop that hangs never makes: ours needs no loop."""
    done = subprocess.run([sys.executable, "-c", _ASKS_ITSELF], capture_output=True, text=True, check=True)
    assert "most recent call first" in done.stderr
    assert done.stdout == "goes on\n"
