"""`fedlog serve` on a real Kafka: what it answered stands in the log, and a stream misses nothing, after any kill."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import random
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from typer.testing import CliRunner

from actors import keys
from ops.operator import tasks
from ops.processes import broker
from ops.terminal.cli import app
from schemas.topics import CATALOGUE, TASKS, partition_of
from streams.kafka.log import KafkaLog
from streams.kafka.settings import KafkaSettings
from streams.log import TopicPartition, scan
from tests.root import ROOT
from tests.worlds.stage import SHORT_DIGITS, reaching

TASK = "digits"
KILLS = 2


def make_certificate(folder: Path) -> ssl.SSLContext:
    """A certificate for this machine, in files; what trusts it and nothing else."""
    key = Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "fedlog test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .sign(key, None)
    )
    (folder / "tls.pem").write_bytes(made.public_bytes(Encoding.PEM))
    (folder / "tls.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return ssl.create_default_context(cafile=str(folder / "tls.pem"))


class Server:
    """A server in a process of its own, that can be killed and started again on the same port."""

    def __init__(self, kafka: KafkaSettings, folder: Path) -> None:
        self._words = [*reaching(kafka), "--folder", str(folder)]
        self._folder, self._context, self._port = folder, make_certificate(folder), 0
        self._child: subprocess.Popen[str] | None = None
        made = CliRunner().invoke(app, [*self._words, "token", "create", "--role", "admin", "--subject", "ada"])
        self._token = made.stdout.strip()

    def start(self) -> None:
        """Start it, and wait until it has said where it is."""
        tls = ["--tls-certificate", str(self._folder / "tls.pem"), "--tls-key", str(self._folder / "tls.key")]
        command = [sys.executable, "-P", "-m", "ops.terminal.cli", *self._words, "serve", "--port", str(self._port)]
        self._child = subprocess.Popen(
            [*command, *tls], cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        assert self._child.stdout is not None
        url = urlsplit(self._child.stdout.readline().strip())
        assert (url.scheme, url.hostname) == ("https", "127.0.0.1")
        self._port = url.port or 0

    def kill(self) -> None:
        """SIGKILL, and the process is gone."""
        assert self._child is not None
        os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()
        assert self._child.stdout is not None
        self._child.stdout.close()

    def ask(self, method: str, path: str, body: Any = None, *, token: bool = True) -> tuple[int, Any]:
        """Status and JSON of an answer. Raises OSError and HTTPException where there is none."""
        with closing(self.connect()) as connection:
            headers = {"Authorization": f"Bearer {self._token}"} if token else {}
            data = None if body is None else json.dumps(body)
            connection.request(method, f"/api/v1/{path}", data, {"Content-Type": "application/json", **headers})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

    def ask_until(self, method: str, path: str, body: Any = None) -> Any:
        """The same, as often as it takes until a server that starts can answer."""
        give_up_s, told = time.monotonic() + 60, "nothing"
        while time.monotonic() < give_up_s:
            with suppress(OSError, http.client.HTTPException):
                status, told = self.ask(method, path, body)
                if status < 500:
                    return told
            time.sleep(0.1)
        raise AssertionError(f"no answer within a minute: {told}")

    def follow(self, last: str | None) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """The messages of the stream with their ids, until the server is gone."""
        headers = {"Authorization": f"Bearer {self._token}", **({"Last-Event-ID": last} if last else {})}
        with closing(self.connect(timeout_s=60)) as connection:
            connection.request("GET", "/api/v1/events/stream", headers=headers)
            message: dict[str, str] = {}
            for line in connection.getresponse():
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name:
                    message[name] = value
                    continue
                assert message.get("event") != "refresh"
                if "id" in message:
                    yield message["id"], json.loads(message["data"]) if message.get("event") == "events" else []
                message = {}

    def listen(self, path: str) -> Iterator[tuple[str, str]]:
        """The messages of an open page, as (event, data), until the server is gone."""
        with closing(self.connect(timeout_s=60)) as connection:
            connection.request("GET", f"/live{path}", headers={"Authorization": f"Bearer {self._token}"})
            event, data = "", ""
            for line in connection.getresponse():
                name, _, value = line.decode().rstrip("\n").partition(": ")
                match name:
                    case "event":
                        event = value
                    case "data" | "data:":
                        data += value
                    case "":
                        yield event, data
                        event, data = "", ""

    def connect(self, timeout_s: float = 60) -> http.client.HTTPSConnection:
        """A connection that trusts this server's certificate alone."""
        return http.client.HTTPSConnection("127.0.0.1", self._port, timeout=timeout_s, context=self._context)


@contextmanager
def served(kafka: KafkaSettings, folder: Path) -> Iterator[Server]:
    """A server that runs, and is gone afterwards."""
    server = Server(kafka, folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()


class Client(threading.Thread):
    """Follows the stream until the task is closed, and comes back with where it was whenever the server is gone."""

    def __init__(self, server: Server) -> None:
        super().__init__(daemon=True)
        self._server, self._last = server, server.ask_until("GET", "position")["position"]
        self.seen: list[dict[str, Any]] = []

    def run(self) -> None:
        """Gather the events about tasks."""
        while not any(event["event"] == "TaskClosed" for event in self.seen):
            with suppress(OSError, http.client.HTTPException):
                for last, events in self._server.follow(self._last):
                    self._last = last
                    self.seen += [event for event in events if event["topic"] == TASKS.name]
                    if any(event["event"] == "TaskClosed" for event in events):
                        return
            time.sleep(0.1)


def test_a_server_that_is_killed_loses_and_doubles_nothing(
    kafka_log: KafkaLog, kafka_settings: KafkaSettings, tmp_path: Path
) -> None:
    """Killed at any moment while it changes a task: what it answered stands in the log, and is streamed once."""
    kafka_log.create_topics(CATALOGUE)
    key = keys.create(tmp_path / "operator.key")
    draw, answered = random.Random(7), 0
    with served(kafka_settings, tmp_path) as server:
        assert server.ask("GET", "tasks", token=False)[0] == 401
        client = Client(server)
        client.start()
        assert server.ask("POST", "training/start", {"name": TASK, "policy": SHORT_DIGITS})[0] == 201
        for _ in range(KILLS):
            killing = threading.Timer(draw.uniform(0.0, 1.5), server.kill)
            # Until one gets no answer: nobody knows whether that one stands in the log.
            with suppress(OSError, http.client.HTTPException):
                for count in itertools.count():
                    if count == 2:
                        killing.start()
                    status, told = server.ask("POST", f"tasks/{TASK}/{draw.choice(('pause', 'resume'))}")
                    assert (status, told["seen"]) == (200, True)
                    answered += 1
            killing.join()
            server.start()
            server.ask_until("GET", "tasks")
        assert server.ask("POST", f"tasks/{TASK}/close")[0] == 200
        client.join(timeout=60)
        assert server.ask("GET", f"tasks/{TASK}")[1]["task"]["status"] == "closing"
    at = TopicPartition(TASKS.name, partition_of(TASK, kafka_log.partitions))
    written = [record.offset for record in scan(kafka_log, at)]
    events = [event for event in client.seen if event["task"] == TASK]
    assert [event["offset"] for event in events] == written
    assert {event["values"]["asked_by"] for event in events} == {"ada"}
    assert KILLS < answered <= len(written) - 2 <= answered + KILLS
    assert tasks.find_view(kafka_log, TASK, operator=key.public_key).closed


def test_an_open_page_says_that_the_log_is_away_and_goes_on(
    kafka_log: KafkaLog, kafka_settings: KafkaSettings, broker_folder: Path, tmp_path: Path
) -> None:
    """The broker dies under an open page: a beat names the log; back again, the page has what was appended since."""
    kafka_log.create_topics(CATALOGUE)
    keys.create(tmp_path / "operator.key")
    with served(kafka_settings, tmp_path) as server:
        assert server.ask("POST", "tasks", {"name": TASK, "policy": SHORT_DIGITS})[0] == 201
        server.ask_until("GET", f"tasks/{TASK}")
        heard = server.listen(f"/tasks/{TASK}")
        assert next(told for told in heard if told == ("beat", ""))
        broker.crash(broker_folder)
        try:
            # Other messages would be waited for as well: the page's stream itself goes on meanwhile.
            assert next(told for told in heard if told == ("beat", "log"))
        finally:
            broker.start(broker_folder)
        assert next(told for told in heard if told == ("beat", ""))
        assert server.ask_until("POST", f"tasks/{TASK}/pause")["seen"]
        assert next(data for event, data in heard if not event and "paused" in data)
