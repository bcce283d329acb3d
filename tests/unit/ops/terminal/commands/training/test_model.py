"""`fedlog model download`: the newest version, or the one that is in production, as files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ops.operator import models
from schemas.events import Noticed
from schemas.topics import PUBLISHED
from streams.memory import MemoryLog
from tests.unit.ops.terminal.conftest import Run, founded_log
from tests.worlds.builders import model_published
from tests.worlds.ops_journal import PLACE, TASK, Journal, append, created
from tests.worlds.releasing.public_log import FLAT, announced


@pytest.fixture
def log() -> MemoryLog:
    """A task with three versions, of which version 1 is in production and version 2 on trial with all of a cohort."""
    log = founded_log()
    append(log, "tasks", created())
    refs = [models.store(log, FLAT * (version + 1), partition=PLACE) for version in range(3)]
    published = [model_published(version, model=ref) for version, ref in enumerate(refs)]
    Journal(log, "rounds").batch(Noticed(fact=created()), *published)
    append(log, PUBLISHED.name, announced("promoted", 1, seq=1, model=refs[1]))
    append(log, PUBLISHED.name, announced("canary", 2, seq=2, share=1.0, cohorts=["a"], model=refs[2]))
    return log


def read(folder: Path) -> tuple[int, list[float]]:
    """The version of a folder, and its numbers."""
    version = json.loads((folder / "config.json").read_text())["version"]
    return version, np.fromfile(folder / "weights.bin", "<f4").tolist()


@pytest.mark.parametrize(
    ("words", "version"),
    [
        ((), 2),
        (("--promoted",), 1),
        (("--promoted", "--device", "d", "--cohort", "a"), 2),
        (("--promoted", "--device", "d", "--cohort", "b"), 1),
    ],
)
def test_a_version_is_chosen_by_whom_it_is_for(run: Run, tmp_path: Path, words: tuple[str, ...], version: int) -> None:
    """The newest for whoever tries, the promoted one for whoever serves, the candidate for a device in its canary."""
    done = run("model", "download", TASK, *words)
    assert done.exit_code == 0, done.stderr
    assert f"Version {version} of {TASK}" in done.stderr
    assert read(tmp_path / TASK / str(version)) == (version, (FLAT * (version + 1)).tolist())


def test_a_rollback_leads_every_device_back(run: Run, log: MemoryLog, tmp_path: Path) -> None:
    """Also one that was in the canary."""
    append(log, PUBLISHED.name, announced("rolledback", 2, seq=3, to=1))
    run("model", "download", TASK, "--promoted", "--device", "d", "--cohort", "a", "--out", tmp_path / "out")
    assert read(tmp_path / "out")[0] == 1


def test_without_a_promotion_there_is_nothing_to_download(run: Run, log: MemoryLog) -> None:
    """Exit code 1, and what is on trial instead."""
    append(log, PUBLISHED.name, announced("rolledback", 1, seq=3, to=None))
    append(log, PUBLISHED.name, announced("canary", 2, seq=4, share=0.5))
    refused = run("model", "download", TASK, "--promoted")
    assert refused.exit_code == 1
    assert f"No version of '{TASK}' is in production. Version 2 is on trial." in refused.stderr


def test_a_stranger_promotes_nothing(run: Run, log: MemoryLog) -> None:
    """What an aggregator's key, or an older record, says of production is passed over."""
    append(log, PUBLISHED.name, announced("promoted", 0, seq=9, role="aggregator"))
    append(log, PUBLISHED.name, announced("promoted", 0, seq=0))
    assert f"Version 1 of {TASK}" in run("model", "download", TASK, "--promoted").stderr


def test_a_device_asks_for_production(run: Run) -> None:
    """Its name means nothing for the newest version, and is refused with what to add."""
    refused = run("model", "download", TASK, "--device", "d")
    assert refused.exit_code == 2
    assert "--promoted" in refused.stderr
