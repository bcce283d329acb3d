"""What a command starts in a folder: it ends with the command, however that ends, and nothing else ends with it."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from ops.broker_state import CLIENTS
from ops.doors.rights import RIGHTS
from ops.history.tables.serving import HistoryServer
from ops.processes import children
from ops.processes.services import (
    Page,
    RunInProgress,
    Service,
    ServiceEnded,
    Services,
    find_principal,
    stop_all,
)
from ops.processes.started import MARK, Started, read_records
from ops.settings import HISTORY_FILE, Settings, resolve
from tests.tables import synced
from tests.worlds.ops_journal import memory_log

# A service that starts another in a session of its own, which hears no SIGTERM: the most stubborn kind.
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
SERVICE = f"""
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", {STUBBORN!r}], start_new_session=True)
time.sleep(600)
"""
OWNER = """
import sys, time
from pathlib import Path
from ops.history.tables.serving import HistoryServer
from ops.processes import children
from ops.processes.services import Services
from ops.settings import resolve
with Services(resolve({"folder": Path(sys.argv[1])}, {}), task="rings") as services:
    inherits = children.Inheritance(environment=services.make_environment())
    children.start([sys.executable, "-c", sys.argv[2]], inherits=inherits)
    print("started", flush=True)
    if sys.argv[3] == "keep":
        services.keep()
    else:
        time.sleep(600)
"""


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    """Settings of a folder of its own, in which nothing runs afterwards, whatever has failed."""
    yield resolve({"folder": tmp_path / "f"}, {})
    for record in read_records(tmp_path / "f"):
        if owner := record.find_owner():
            owner.kill()
        record.end(tmp_path / "f", timeout_s=0)


@pytest.fixture
def bystander() -> Iterator[psutil.Process]:
    """A process that the run of another folder has started: its mark is another."""
    others = {**os.environ, MARK: "of another run"}
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], env=others)
    yield psutil.Process(child.pid)
    child.kill()
    child.wait()


def start_owner(settings: Settings, *, mode: str = "wait") -> subprocess.Popen[str]:
    """A process that has started a service, which has started another."""
    words = [sys.executable, "-c", OWNER, str(settings.folder), SERVICE, mode]
    owner = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    assert owner.stdout.readline() == "started\n"
    return owner


def find_record(settings: Settings) -> Started:
    """What the only owner has written down."""
    (record,) = read_records(settings.folder.absolute())
    return record


def wait_until_gone(record: Started, settings: Settings) -> None:
    """Returns once nothing with the mark lives and the record is gone; at the latest when that is hopeless."""
    give_up_s = time.monotonic() + 60
    while record.list_processes() or list(read_records(settings.folder.absolute())):
        assert time.monotonic() < give_up_s
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_nothing_outlives_the_command(settings: Settings, bystander: psutil.Process, number: signal.Signals) -> None:
    """After a kill -9 its guardian ends all that it started, at any depth; after Ctrl-C it does so itself."""
    owner = start_owner(settings)
    record, family = find_record(settings), psutil.Process(owner.pid).children(recursive=True)
    owner.send_signal(number)
    if number == signal.SIGKILL:
        wait_until_gone(record, settings)
    owner.wait()
    # Asked of the machine, and not of the code that had to end them.
    assert psutil.wait_procs(family, timeout=60)[1] == []
    assert bystander.status() != psutil.STATUS_ZOMBIE


def test_what_is_kept_lives_until_it_is_stopped(settings: Settings, bystander: psutil.Process) -> None:
    """`--keep` leaves processes behind on purpose; `fedlog stop` ends exactly those, and says of whom they were."""
    start_owner(settings, mode="keep").wait()
    record = find_record(settings)
    assert record.list_processes()
    assert [line for line in stop_all(settings) if "rings" in line]
    assert record.list_processes() == []
    assert bystander.status() != psutil.STATUS_ZOMBIE
    assert list(stop_all(settings)) == []


def test_a_second_run_in_a_folder_is_told_who_is_there(settings: Settings) -> None:
    """Two runs at once would end each other's services: the second is refused, and knows what to do."""
    owner = start_owner(settings)
    with pytest.raises(RunInProgress, match=rf"process {owner.pid} trains rings.*fedlog stop"):
        Services(settings, task="other").__enter__()
    assert list(stop_all(settings))
    owner.wait()
    with Services(settings, task="other"):
        pass


def test_a_child_finds_the_settings_of_its_parent(settings: Settings, tmp_path: Path) -> None:
    """What was given as an option reaches children in other folders, and no argument shows a password."""
    given = resolve({"folder": Path("here"), "sasl_mechanism": "PLAIN", "sasl_username": "u", "sasl_password": "p"}, {})
    found = resolve({}, given.make_environment())
    assert found.sasl_password == "p"
    assert found.folder == Path("here").absolute()
    assert found.security_protocol == given.security_protocol
    program = "import os; print(os.environ['FEDLOG_STARTED_BY'])"
    with Services(settings, task="t") as services:
        record = find_record(settings)
        child = children.start(
            [sys.executable, "-c", program],
            output=tmp_path / "out",
            inherits=children.Inheritance(environment=services.make_environment()),
        )
        child.wait()
    assert (tmp_path / "out").read_text().strip() == record.mark


def test_each_process_comes_as_itself_where_there_are_doors(settings: Settings) -> None:
    """At a broker with doors a child is the principal of its work; elsewhere, or without one, nobody is named."""
    with Services(settings, task="digits") as services:
        assert "FEDLOG_SASL_USERNAME" not in services.make_environment("selector")
        (settings.broker_folder / CLIENTS).mkdir(parents=True)
        named = [services.make_environment(name).get("FEDLOG_SASL_USERNAME") for name in ("selector", "")]
        assert named == ["selector", None]
    with Services(replace(settings, bootstrap_servers="kafka:9092"), task="digits") as services:
        assert "FEDLOG_SASL_USERNAME" not in services.make_environment("selector")


def test_each_command_has_its_principal() -> None:
    """What a run starts is somebody in the table of rights; a fleet follows its tasks, and is nobody."""
    lines = (
        "worker selector",
        "worker shard",
        "fleet --task t",
        "evaluate --follow",
        "--role-key-file second.key evaluate --follow",
        "history sync",
        "serve",
        "gateway",
    )
    found = [find_principal(line.split()) for line in (*lines, "helper run", "policy show")]
    assert found == ["selector", "shard", "", "evaluator", "evaluator", "analysts", "serve", "gateway", "helper", ""]
    assert {*found} - {""} <= set(RIGHTS)


def test_a_run_goes_on_without_its_history(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that ends by itself, or cannot begin, is said once and ends nothing; a worker that ends does."""
    said: list[str] = []
    with Services(settings, task="t", say=said.append) as services:
        services.start("history", "history", "sync", "--no-such-option", is_extra=True)
        services.services["history"].child.wait()
        services.check()
        services.check()
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        services.start_history()
        services.start_history()
        assert "history" not in services.services
        services.start("worker", "worker", "no-such-actor")
        services.services["worker"].child.wait()
        with pytest.raises(ServiceEnded, match="worker ended with exit code 2"):
            services.check()
    without, absent = said
    assert "Without history from here on, which ended with exit code 2" in without
    assert "--no-such-option" in without
    assert "fedlog[history]" in absent


def test_a_history_that_somebody_keeps_is_left_to_them(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    """A server of pages goes on with it, and the run starts no second one that could only say so."""
    path = settings.open_folder() / HISTORY_FILE
    with (
        Services(settings, task="t") as services,
        synced(path, memory_log()) as history,
        HistoryServer(path, history),
    ):
        services.start_history()
        assert services.services == {}
    assert capsys.readouterr().out == ""


def test_the_page_comes_after_its_history_and_is_told_once(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its address is said when the whole of it is written, whatever stands before it; a second one never starts."""
    said: list[str] = []
    path = settings.open_folder() / HISTORY_FILE
    begun: list[str] = []

    def start_beside(services: Services, name: str, *arguments: str) -> None:
        begun.append(name)
        log = settings.folder / "page.log"
        child = children.start([sys.executable, "-c", "import time; time.sleep(600)"], output=log)
        services.services[name] = Service(child, log, is_extra=True)

    monkeypatch.setattr(Services, "start_beside", start_beside)
    with Services(settings, task="t") as services:
        page = Page(services, say=said.append)
        # What never comes is waited for no longer than it is told to.
        page.wait(timeout_s=0.3)
        assert begun == []
        with synced(path, memory_log()) as history, HistoryServer(path, history):
            page.tend()
        log = services.services["page"].log
        for text in ("A key was made.\n", "http://127.0.0.1:8", "700/login?token=t\n", "Log in with a token\n"):
            page.tend()
            assert said == []
            log.write_text(log.read_text() + text)
            if "700" in text:
                break
        page.tend()
        page.tend()
    assert begun == ["page"]
    assert said == ["Watch it: http://127.0.0.1:8700/login?token=t"]
    assert capsys.readouterr().out == ""


def test_a_run_goes_on_without_its_page(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the extra is missing it is said once, with what brings it."""
    said: list[str] = []
    path = settings.open_folder() / HISTORY_FILE
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with (
        Services(settings, task="t") as services,
        synced(path, memory_log()) as history,
        HistoryServer(path, history),
    ):
        page = Page(services, say=said.append)
        page.wait(timeout_s=60)
        page.tend()
        assert services.services == {}
    assert len(said) == 1
    assert "fedlog[serve]" in said[0]
