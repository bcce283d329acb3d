"""The instruments of the kill matrix: a proxy that did nothing, or a trap that struck twice, would prove nothing."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.trials.chaos import results
from tests.trials.chaos.experiment import Outcome
from tests.trials.chaos.points import cell, matrix
from tests.trials.chaos.proxy import END_TXN, HOST, Proxy
from tests.trials.chaos.trap import Blow, Trap

METADATA, FETCH = 3, 1


class Broker:
    """Answers each request with its correlation id and its own address."""

    def __init__(self) -> None:
        self._listening = socket.create_server((HOST, 0))
        self.port: int = self._listening.getsockname()[1]
        self.keys: list[int] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self._listening.accept()
            while head := connection.recv(4):
                key, _, correlation = struct.unpack(">hhi", connection.recv(struct.unpack(">i", head)[0]))
                self.keys.append(key)
                answer = struct.pack(">i", correlation) + HOST.encode() + struct.pack(">i", self.port)
                connection.sendall(struct.pack(">i", len(answer)) + answer)

    def close(self) -> None:
        self._listening.close()


class Client:
    """Sends requests through a proxy; `heard` is what the broker said about its own port, None for silence."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection((HOST, port))

    def ask(self, key: int, correlation: int) -> None:
        self.socket.sendall(struct.pack(">ihhi", 8, key, 9, correlation))

    def heard(self, timeout_s: float = 10.0) -> tuple[int, int] | None:
        self.socket.settimeout(timeout_s)
        try:
            answer = self.socket.recv(1024)
        except TimeoutError:
            return None
        return struct.unpack_from(">i", answer, 4)[0], struct.unpack_from(">i", answer, len(answer) - 4)[0]


@pytest.fixture
def line() -> Iterator[tuple[Client, Proxy, Broker]]:
    """A client, the proxy that it believes to be the broker, and the broker."""
    broker = Broker()
    proxy = Proxy(broker.port)
    client = Client(proxy.port)
    yield client, proxy, broker
    client.socket.close()
    proxy.close()
    broker.close()


def test_the_proxy_is_the_only_way(line: tuple[Client, Proxy, Broker]) -> None:
    """A reply that names the broker names the proxy; a reply with data keeps every byte."""
    client, proxy, broker = line
    client.ask(METADATA, 1)
    assert client.heard() == (1, proxy.port)
    client.ask(FETCH, 2)
    assert client.heard() == (2, broker.port)


def test_one_reply_to_end_txn_is_lost(line: tuple[Client, Proxy, Broker]) -> None:
    """The request arrives, its reply does not, and the next one does."""
    client, proxy, broker = line
    proxy.lose_reply()
    client.ask(END_TXN, 1)
    client.ask(FETCH, 2)
    assert client.heard() == (2, broker.port)
    client.ask(END_TXN, 3)
    assert client.heard() == (3, broker.port)
    assert (broker.keys, proxy.lost) == ([END_TXN, FETCH, END_TXN], 1)


def test_what_is_held_back_arrives_late(line: tuple[Client, Proxy, Broker]) -> None:
    """Between cut and heal nothing reaches the broker; afterwards everything does."""
    client, proxy, broker = line
    proxy.cut()
    client.ask(FETCH, 1)
    assert client.heard(0.3) is None
    assert broker.keys == []
    proxy.heal()
    assert client.heard() == (1, broker.port)


def test_a_trap_strikes_once_and_only_its_target(tmp_path: Path) -> None:
    """A blow hits the first target that passes its point after it was armed; every passage of a target is told."""
    driver = Trap(folder=tmp_path, partition=4, name="driver")
    first = Trap(folder=tmp_path, partition=4, name="selector-0", is_target=True)
    blow = Blow(number=0, point="append", fault="reply")
    driver.answer(blow)  # so that whoever is hit goes on at once
    first.passed("append")
    driver.arm(blow)
    Trap(folder=tmp_path, partition=4, name="aggregator-0").passed("append")
    first.passed("commit")
    assert driver.struck(blow) == {}
    first.passed("append")
    hit = driver.struck(blow)
    Trap(folder=tmp_path, partition=4, name="selector-1", is_target=True).passed("append")
    assert hit["name"] == "selector-0"
    assert driver.struck(blow) == hit
    assert len(driver.passages("append", actor="selector")) == 3


def test_the_newest_row_of_a_cell_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cell is clean when its last run hit and violated nothing; the others are named under the table."""
    monkeypatch.setattr(results, "FILE", tmp_path / "chaos.jsonl")
    good, bad, missed = (cell(f"aggregator:{point}:kill:1") for point in ("append", "commit", "swap"))
    results.keep(good, Outcome(hits=1, violations=1))
    results.keep(good, Outcome(hits=1))
    results.keep(bad, Outcome(hits=1, violations=2, first_violation="twice"))
    row = json.loads(results.keep(missed, Outcome()))
    assert {"at", "commit", "point", "actor", "fault", "workers", "hits", "recovery_s"} <= row.keys()
    assert results.clean() == {str(good)}
    assert "not clean: aggregator:commit:kill:1: twice" in results.table()


def test_every_cell_has_one_name() -> None:
    """A name gives back its cell, and no two cells share one."""
    cells = list(matrix())
    assert [cell(str(one)) for one in cells] == cells
    assert len(set(cells)) == len(cells) > 300
