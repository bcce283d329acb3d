"""An archive on a real S3 server: kills of client and server, two clients, a server that stands still, refusals.

`make s3` runs it, with versitygw of the PATH or built with Go; adds to docs/results.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ops.archive.archivist import Archivist
from ops.archive.checking import check_archive
from ops.archive.folder import Folder
from ops.archive.s3 import open_bucket
from ops.archive.stores import Store, StoreAway, StoreFull, StoreRefused
from tests.root import ROOT
from tests.trials.archive.child import VERSIONS, make_world
from tests.trials.archive.server import KEY as ACCESS
from tests.trials.archive.server import SECRET, VERSION, Server
from tests.trials.results import add_row

# What every store has to keep, on this one too.
from tests.unit.ops.archive.test_stores import (  # noqa: F401
    test_a_file_is_replaced_only_as_it_was_read,
    test_a_file_is_taken_away_once,
    test_only_what_begins_so_is_listed,
    test_what_was_written_is_read,
)
from tests.worlds.builders import DEPLOYMENT, KEY
from tests.worlds.releasing.public_log import PublicLog

KILLS = int(os.environ.get("KILLS", "20"))
BUCKET = "models"


@dataclass
class Tried:
    """What was done to whom."""

    counts: dict[str, int] = field(default_factory=dict)

    def note(self, what: str, times: int = 1) -> None:
        self.counts[what] = self.counts.get(what, 0) + times


@pytest.fixture(scope="module")
def tried() -> Iterator[Tried]:
    """Becomes a row of docs/results, where nothing failed before."""
    found = Tried()
    yield found
    if {"client kills", "server kills", "pairs", "stops"} <= found.counts.keys():
        add_row("archive", {"server": f"versitygw {VERSION}", "versions": VERSIONS, "wrong": [], **found.counts})


@pytest.fixture(scope="module")
def world() -> PublicLog:
    """The log that each child has too."""
    return make_world()


@pytest.fixture(scope="module")
def calm(world: PublicLog, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What an undisturbed run writes, into a folder."""
    store = Folder(tmp_path_factory.mktemp("calm"))
    with closing(Archivist(world.log, store, operator=KEY.public_key, deployment=DEPLOYMENT)) as archivist:
        archivist.catch_up()
        list(archivist.step())
    return read_all(store)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server that runs, with a bucket, and the credentials for it."""
    for name, value in (("AWS_ACCESS_KEY_ID", ACCESS), ("AWS_SECRET_ACCESS_KEY", SECRET), ("AWS_REGION", "us-east-1")):
        monkeypatch.setenv(name, value)
    found = Server(tmp_path / "server")
    found.start()
    found.make_bucket(BUCKET)
    try:
        yield found
    finally:
        found.go_on()
        found.kill()


@pytest.fixture
def store(server: Server) -> Store:
    """A prefix of that bucket."""
    return open_store(server)


def open_store(server: Server, prefix: str = "prod/a") -> Store:
    return open_bucket(f"s3://{BUCKET}/{prefix}", endpoint=server.url, request_s=5)


def read_all(store: Store) -> dict[str, bytes]:
    """Every file."""
    found = {name: store.read(name) for name, _ in store.list_sizes()}
    return {name: stored.data for name, stored in found.items() if stored is not None}


def start_child(server: Server) -> subprocess.Popen[str]:
    """An archivist, which has made its log when this returns."""
    words = [sys.executable, "-m", "tests.trials.archive.child", f"s3://{BUCKET}/prod/a", server.url]
    child = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


def require_whole(world: PublicLog, store: Store, calm: dict[str, bytes]) -> None:
    """The same bytes as undisturbed, and nothing that the check finds."""
    assert read_all(store) == calm
    with closing(Archivist(world.log, store, operator=KEY.public_key, deployment=DEPLOYMENT)) as archivist:
        archivist.catch_up()
        found = check_archive(world.log, store, public=archivist.public)
    assert (found.findings, found.versions) == ([], VERSIONS)


@pytest.mark.timeout(900)
def test_a_killed_client_is_followed_by_another(
    world: PublicLog, server: Server, store: Store, calm: dict[str, bytes], tried: Tried
) -> None:
    """Guarantee: killed again and again at random moments, the archive ends as that of an undisturbed run."""
    draw = random.Random(7)
    killed = 0
    while killed < KILLS:
        child = start_child(server)
        try:
            child.wait(draw.uniform(0.02, 1.2))
            # It was done: most of it anew, so that there is something to kill.
            for name, _ in list(store.list_sizes()):
                if int(name.split("/")[1]) % 4:
                    store.delete(name)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            killed += 1
            for name in [name for name, _ in store.list_sizes() if name.endswith("config.json")]:
                assert store.read(name.replace("config.json", "privacy.log")) is not None
    assert start_child(server).wait(120) == 0
    require_whole(world, store, calm)
    tried.note("client kills", killed)


@pytest.mark.timeout(900)
def test_two_clients_write_side_by_side(
    world: PublicLog, server: Server, store: Store, calm: dict[str, bytes], tried: Tried
) -> None:
    """Guarantee: neither undoes what the other has written; one of them is killed now and then."""
    draw = random.Random(8)
    for number in range(4):
        children = [start_child(server) for _ in range(2)]
        if number % 2:
            time.sleep(draw.uniform(0.1, 1.0))
            children[0].kill()
        assert [child.wait(120) for child in children][1] == 0
        require_whole(world, store, calm)
        for name, _ in list(store.list_sizes()):
            store.delete(name)
        tried.note("pairs")


@pytest.mark.timeout(900)
def test_a_killed_server_loses_nothing_that_it_acknowledged(
    world: PublicLog, server: Server, store: Store, calm: dict[str, bytes], tried: Tried
) -> None:
    """Guarantee: a client waits for a server that was killed, and writes what is missing once it is back."""
    draw = random.Random(9)
    kills = 0
    while kills < max(4, KILLS // 3):
        child = start_child(server)
        while child.poll() is None and kills < max(4, KILLS // 3):
            time.sleep(draw.uniform(0.05, 0.8))
            server.kill()
            kills += 1
            time.sleep(draw.uniform(0.0, 0.5))
            server.start()
        assert child.wait(120) == 0
        require_whole(world, store, calm)
        for name, _ in list(store.list_sizes()):
            store.delete(name)
    tried.note("server kills", kills)


@pytest.mark.timeout(300)
def test_a_server_that_stands_still_is_waited_for(
    world: PublicLog, server: Server, store: Store, calm: dict[str, bytes], tried: Tried
) -> None:
    """Guarantee: requests that get no answer are given up and made again; nothing is written twice or in half."""
    child = start_child(server)
    for _ in range(2):
        time.sleep(0.3)
        server.stop()
        time.sleep(7)
        server.go_on()
        tried.note("stops")
    assert child.wait(120) == 0
    require_whole(world, store, calm)


def test_what_a_server_refuses_is_told(server: Server, monkeypatch: pytest.MonkeyPatch, tried: Tried) -> None:
    """Guarantee: a wrong secret, a stranger's key and a bucket that is not there are refusals, and are told apart."""
    missing = open_bucket("s3://nowhere/x", endpoint=server.url, request_s=5)
    with pytest.raises(StoreRefused, match="no such bucket"):
        missing.write("a", b"x")
    for name, value in (("AWS_SECRET_ACCESS_KEY", "wrong"), ("AWS_ACCESS_KEY_ID", "stranger")):
        monkeypatch.setenv(name, value)
        with pytest.raises(StoreRefused, match=r"[Cc]heck .*credentials"):
            open_store(server).write("a", b"x")
        tried.note("refusals")


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own with room for little, which takes the right to mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", folder], check=False).returncode:
        pytest.fail("No file system may be mounted here: run this trial as root, in a container with CAP_SYS_ADMIN.")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def make_room(folder: Path) -> None:
    """As the disk's owner does."""
    subprocess.run(["mount", "-o", "remount,size=400m", folder], check=True)


@pytest.mark.timeout(300)
def test_a_full_disk_of_a_server_is_waited_out(
    world: PublicLog, small: Path, server: Server, calm: dict[str, bytes], tried: Tried
) -> None:
    """Guarantee: it is told as full, what is there stays whole, and with room the same client writes the rest."""
    full = Server(small)
    full.start()
    full.make_bucket(BUCKET)
    store = open_store(full)
    try:
        with closing(Archivist(world.log, store, operator=KEY.public_key, deployment=DEPLOYMENT)) as archivist:
            archivist.catch_up()
            with pytest.raises(StoreAway) as told:
                list(archivist.step())
            tried.counts["full, as the server says it"] = int(isinstance(told.value, StoreFull))
            make_room(small)
            list(archivist.step())
        require_whole(world, store, calm)
    finally:
        full.kill()


def test_a_full_disk_of_a_folder_is_waited_out(
    world: PublicLog, small: Path, calm: dict[str, bytes], tried: Tried
) -> None:
    """Guarantee: the same in a folder, by the disk's own word; half a file is not left behind."""
    store = Folder(small / "archive")
    with closing(Archivist(world.log, store, operator=KEY.public_key, deployment=DEPLOYMENT)) as archivist:
        archivist.catch_up()
        with pytest.raises(StoreFull, match="No space left"):
            list(archivist.step())
        assert not list(small.rglob("*.new"))
        make_room(small)
        list(archivist.step())
    require_whole(world, store, calm)
    tried.note("full disks of a folder")


POLICY = """
model = "client_agent.learning.models:softmax_regression"
data = "client_agent.learning.examples:digits"
[selection]
devices_expected = 6
concurrency = 6
[aggregation]
updates_per_round = 3
[staleness]
max_versions = 2
[retention]
models_kept = 3
milestone_every = 4
[stop]
versions_max = 8
"""


@pytest.mark.timeout(600)
def test_a_task_on_kafka_is_archived_while_it_trains(server: Server, tmp_path: Path, tried: Tried) -> None:
    """Guarantee: `fedlog archive --follow` beside a run, killed and started again, holds what the check asks for."""
    (tmp_path / "policy.toml").write_text(POLICY)
    fedlog = [sys.executable, "-P", "-m", "ops.terminal.cli", "--folder", str(tmp_path / "fedlog")]
    to = ["--to", f"s3://{BUCKET}/kafka", "--endpoint", server.url]
    subprocess.run([*fedlog, "broker", "start"], check=True, capture_output=True)
    try:
        subprocess.run([*fedlog, "topics", "create"], check=True, capture_output=True)
        subprocess.run([*fedlog, "key", "create"], check=True, capture_output=True)
        run = subprocess.Popen(
            [*fedlog, "run", str(tmp_path / "policy.toml"), "--no-page", "--name", "digits"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        draw = random.Random(5)
        while run.poll() is None:
            child = subprocess.Popen([*fedlog, "archive", "--follow", *to], start_new_session=True)
            time.sleep(draw.uniform(2, 5))
            child.kill()
            child.wait()
            tried.note("client kills beside a run")
        assert run.returncode == 0
        subprocess.run([*fedlog, "archive", *to], check=True)
        checked = subprocess.run([*fedlog, "archive", "check", *to], check=False, capture_output=True, text=True)
        assert checked.returncode == 0, checked.stdout + checked.stderr
        assert "9 versions" in checked.stderr
        store = open_store(server, "kafka")
        kept = {name.split("/")[1] for name, _ in store.list_sizes() if name.endswith("weights.bin")}
        assert kept == {"0", "4", "6", "7", "8"}
    finally:
        subprocess.run([*fedlog, "stop"], check=False, capture_output=True)
        subprocess.run([*fedlog, "broker", "stop"], check=False, capture_output=True)


def test_a_server_that_is_away_is_told(server: Server, store: Store) -> None:
    """Guarantee: it is an error that is waited out, and names the archive."""
    server.kill()
    with pytest.raises(StoreAway, match="s3://models/prod/a"):
        store.read("a")
