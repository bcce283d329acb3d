"""A helper at another organisation: it has a principal of its own on the brokers, and a folder, and nothing of ours.

`make rights` runs it. Its process comes with the files that its owner was given: a password, the authority's
certificate, the operator's public key. Everything that it must not do is tried in earnest, and refused by the brokers.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from actors import keys
from schemas.events import MaskKeyOpened, MasksSummed, RoundBound
from schemas.topics import BODIES, MASKS, REGISTRY, ROUNDS, TASKS, UPDATES, partition_of
from streams.kafka.log import KafkaLog
from streams.kafka.settings import KafkaSettings
from tests.judges.logbook import read
from tests.judges.masking.words import list_masked, read_words
from tests.root import ROOT
from tests.trials.doors.pairs import try_all
from tests.trials.doors.rights import (
    TASK,
    Guarded,
    guarded,
    run_command,
    run_in_a_process,
    start_worker,
    wait_for_versions,
)
from tests.trials.results import add_row
from tests.worlds.stage import reaching

__all__ = ["guarded"]
POLICY = """
tier = "masked"
model = "client_agent.learning.models:softmax_regression"
data = "client_agent.learning.examples:digits"
[masked]
helpers = HELPERS
[selection]
devices_expected = 4
concurrency = 4
retry_after_s = 0.2
[aggregation]
updates_per_round = 2
[compression]
codec = "float32"
[stop]
versions_max = 2
"""
MAY_WRITE = {MASKS.name, BODIES.name}
MAY_READ = {TASKS.name, UPDATES.name, ROUNDS.name, REGISTRY.name, MASKS.name}


@pytest.mark.timeout(600)
def test_a_helper_needs_its_principal_and_its_folder(guarded: Guarded, tmp_path: Path) -> None:
    """Guarantee: with the rights of the table and no more it answers for rounds, and whatever else it tries is denied.

    Its process opens no file of ours: those that it has open are in its own folder.
    """
    elsewhere = tmp_path / "another organisation"
    elsewhere.mkdir()
    settings = _hand_over(guarded.settings("helper"), elsewhere)
    helper = run_command(["--folder", str(elsewhere)], "helper", "init", "--state", str(elsewhere / "h")).strip()
    (tmp_path / "policy.toml").write_text(POLICY.replace("HELPERS", json.dumps([helper])))
    operator = [*reaching(guarded.settings("operator")), "--folder", str(tmp_path)]
    run_command(operator, "key", "create")
    key = keys.load(tmp_path / "operator.key")
    run_command(operator, "task", "create", str(tmp_path / "policy.toml"), "--name", TASK)
    workers = [start_worker(guarded, role, key, folder=tmp_path / role) for role in ("selector", "aggregator")]
    log = KafkaLog(guarded.settings("operator"))
    try:
        with _helping(settings, elsewhere, operator=key.public_key.hex()) as process:
            own = [*reaching(guarded.settings("devices")), "--operator-public-key", key.public_key.hex()]
            fleet = ["fleet", "--task", TASK, "--devices", "4", "--processes", "1", "--json"]
            run_in_a_process([*own, "--folder", str(tmp_path / "fleet"), *fleet])
            wait_for_versions(log, workers, 3)
            _require_own_files(process, elsewhere)
        said = _count_words(log)
        assert (said[MaskKeyOpened.__name__], said[RoundBound.__name__], said[MasksSummed.__name__]) == (1, 2, 2)
        tried = list(try_all("helper", settings))
        assert [one for one in tried if one.is_wrong] == []
        allowed = {(one.action, one.name) for one in tried if one.is_allowed}
        assert allowed == {*(("write", name) for name in MAY_WRITE), *(("read", name) for name in MAY_READ)}
        run_command(operator, "verify")
        run_command(operator, "replay", "--full")
    finally:
        for worker in workers:
            worker.end()
        for worker in workers:
            worker.ended()
        log.close()
    add_row("helper", {"tries": len(tried), "refused": sum(not one.is_allowed for one in tried), "said": dict(said)})


def _hand_over(settings: KafkaSettings, folder: Path) -> KafkaSettings:
    """What its owner was given of ours, as files of its own."""
    assert settings.ssl_cafile is not None
    return replace(settings, ssl_cafile=shutil.copy(settings.ssl_cafile, folder / "authority.pem"))


@contextmanager
def _helping(settings: KafkaSettings, folder: Path, *, operator: str) -> Iterator[psutil.Process]:
    """`fedlog helper run`, from its own folder, with an environment that has nothing of ours but the program."""
    words = [*reaching(settings), "--folder", str(folder), "--operator-public-key", operator]
    with (folder / "helper.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "ops.terminal.cli", *words, "helper", "run", "--state", str(folder / "h")],
            cwd=folder,
            env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(folder)},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield psutil.Process(process.pid)
    finally:
        process.kill()
        process.wait()


def _require_own_files(process: psutil.Process, folder: Path) -> None:
    program = (str(ROOT), sys.prefix, sys.base_prefix, "/usr", "/lib", "/dev")
    found = [file.path for file in process.open_files() if not file.path.startswith(program)]
    assert found
    assert all(Path(path).is_relative_to(folder) for path in found), found


def _count_words(log: KafkaLog) -> Counter[str]:
    book = read(log, partition_of(TASK, log.partitions))
    words = read_words(book, list_masked(book))
    return Counter(type(word.said.event).__name__ for said in words.values() for word in said)
