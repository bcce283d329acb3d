"""A subscriber: each announcement at least once, from a kept position, believed for its signatures alone."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from client_agent.locks import FolderInUse
from ops.operator import models
from ops.operator.errors import ModelGone
from ops.services.standing import StandingUnfit
from ops.services.subscriber import PROMOTIONS, Subscriber, Wanted
from schemas.events import DeploymentFounded
from streams.log import TopicPartition
from streams.memory import MemoryLog
from tests.places import home_of
from tests.worlds.builders import DEPLOYMENT, TASK
from tests.worlds.ops_journal import PLACE, append, memory_log
from tests.worlds.published.announcing import (
    OPERATOR,
    announce_rollout,
    announce_version,
    describe_rollout,
    publish,
    sign_as,
)

FLAT = np.arange(6, dtype=np.float32)


@pytest.fixture
def log() -> MemoryLog:
    """A deployment in which nothing was announced yet."""
    log = memory_log()
    append(log, "tasks", DeploymentFounded(deployment=DEPLOYMENT), partition=0)
    return log


def subscribe(log: MemoryLog, state: Path | None = None, *, begin: Any = "beginning", **wanted: Any) -> Subscriber:
    """A subscriber, to be closed."""
    return Subscriber(log, OPERATOR, wanted=Wanted(begin=begin, **wanted), state=state)


def drain(subscriber: Subscriber) -> list[str]:
    """The ids of all that it is told, each confirmed."""
    told = []
    while (found := subscriber.next(0)) is not None:
        told.append(found.id)
        subscriber.confirm()
    return told


def hear(log: MemoryLog, state: Path | None = None, **wanted: Any) -> list[str]:
    """The same by a subscriber that ends then."""
    with closing(subscribe(log, state, **wanted)) as subscriber:
        return drain(subscriber)


def test_each_is_told_in_the_order_of_the_log(log: MemoryLog) -> None:
    """Guarantee: versions, promotions and rollbacks of a task come as they were decided."""
    publish(log, announce_version(0), announce_version(1), announce_rollout("promoted", 1, seq=1))
    publish(log, announce_rollout("rolledback", 1, seq=2))
    assert hear(log) == [f"{TASK}/0", f"{TASK}/1", f"{TASK}/1/promoted/1", f"{TASK}/1/rolledback/2"]
    assert hear(log, kinds=PROMOTIONS) == [f"{TASK}/1/promoted/1", f"{TASK}/1/rolledback/2"]
    assert hear(log, task="other") == []


def test_all_tasks_are_heard_in_all_partitions(log: MemoryLog) -> None:
    """Guarantee: without a task's name none is left out."""
    publish(log, announce_version(0))
    other = home_of("other")
    publish(log, announce_version(0, task="other", partition=other), partition=other)
    assert sorted(hear(log)) == [f"{TASK}/0", "other/0"]
    assert hear(log, task="other") == ["other/0"]


def test_what_is_not_confirmed_is_told_again(log: MemoryLog, tmp_path: Path) -> None:
    """Guarantee: at least once; the position moves when the one who was told is done, and not before."""
    state = tmp_path / "position"
    publish(log, announce_version(0), announce_version(1))
    with closing(subscribe(log, state)) as subscriber:
        first = subscriber.next(0)
        assert first is not None
        assert first.id == f"{TASK}/0"
        # Asked again without a word that it is done.
        assert subscriber.next(0) == first
    with closing(subscribe(log, state)) as subscriber:
        assert subscriber.next(0) == first
        subscriber.confirm()
    assert hear(log, state) == [f"{TASK}/1"]
    assert hear(log, state) == []


def test_whoever_dies_is_told_again_and_nothing_twice_that_was_done(log: MemoryLog, tmp_path: Path) -> None:
    """Guarantee: a confirmed announcement is on the disk as such, before anything else happens."""
    state = tmp_path / "position"
    publish(log, *(announce_version(number) for number in range(3)))
    dead = subscribe(log, state)
    dead.next(0)
    dead.confirm()
    dead.next(0)
    # A death releases the lock and keeps nothing more.
    dead._file.close()
    assert hear(log, state) == [f"{TASK}/1", f"{TASK}/2"]


def test_now_is_kept_at_once(log: MemoryLog, tmp_path: Path) -> None:
    """Guarantee: whoever begins now, dies and comes back has missed nothing in between."""
    state = tmp_path / "position"
    publish(log, announce_version(0))
    dead = subscribe(log, state, begin="now")
    dead._file.close()
    publish(log, announce_version(1))
    assert hear(log, state, begin="now") == [f"{TASK}/1"]


def test_forged_and_foreign_records_are_skipped_and_counted(log: MemoryLog) -> None:
    """Guarantee: nobody is told what no certified key has signed, and every such record is counted in a log line."""
    stranger = sign_as("rollout", describe_rollout("promoted", 9), deployment=b"x" * 16)
    by_other_role = sign_as("aggregator", describe_rollout("promoted", 9, seq=1))
    publish(log, b"junk", stranger, by_other_role, announce_rollout("promoted", 1, seq=2))
    with capture_logs() as lines, closing(subscribe(log)) as subscriber:
        assert drain(subscriber) == [f"{TASK}/1/promoted/2"]
        assert subscriber.skipped == 3
    assert [line["event"] for line in lines] == ["junk_skipped", "junk_skipped"]


@pytest.mark.parametrize("begin", ["beginning", "now"])
def test_a_copy_of_an_old_promotion_promotes_nothing(log: MemoryLog, tmp_path: Path, begin: str) -> None:
    """Guarantee: a true record that somebody writes again is passed over, with a position and without."""
    old, new = announce_rollout("promoted", 1, seq=1), announce_rollout("promoted", 2, seq=5)
    publish(log, old, new)
    hear(log, tmp_path / "position", begin=begin)
    publish(log, old, new, announce_rollout("promoted", 3, seq=6))
    assert hear(log, tmp_path / "position", begin=begin) == [f"{TASK}/3/promoted/6"]


def test_copies_of_another_kind_do_not_hide_what_is_next(log: MemoryLog) -> None:
    """Guarantee: what a forged record says of its batch keeps no true one from being told."""
    forged = sign_as("evaluator", describe_rollout("promoted", 9, seq=1_000))
    publish(log, forged)
    with closing(subscribe(log, begin="now")) as subscriber:
        publish(log, announce_rollout("promoted", 1, seq=1))
        assert drain(subscriber) == [f"{TASK}/1/promoted/1"]


def test_a_subscriber_without_the_name_of_the_deployment_keeps_to_the_first(tmp_path: Path) -> None:
    """Guarantee: where nobody says whose log it is, two deployments under one key are still told apart."""
    log = memory_log()
    publish(log, announce_version(0), sign_as("rollout", describe_rollout("promoted", 9), deployment=b"x" * 16))
    assert hear(log, tmp_path / "position") == [f"{TASK}/0"]
    publish(log, sign_as("rollout", describe_rollout("promoted", 9, seq=1), deployment=b"x" * 16))
    assert hear(log, tmp_path / "position") == []


def test_a_position_counts_for_what_it_was_kept_for(log: MemoryLog, tmp_path: Path) -> None:
    """Guarantee: with another choice it would leave something out, so that it is refused, and so is anything else."""
    state = tmp_path / "position"
    hear(log, state, kinds=PROMOTIONS)
    with pytest.raises(StandingUnfit, match="kept for kinds"):
        hear(log, state)
    with pytest.raises(StandingUnfit, match="task 'all', not 'digits'"):
        hear(log, state, kinds=PROMOTIONS, task=TASK)
    state.write_text("{")
    with pytest.raises(StandingUnfit, match="no position"):
        hear(log, state, kinds=PROMOTIONS)
    other = memory_log()
    append(other, "tasks", DeploymentFounded(deployment=b"y" * 16), partition=0)
    hear(log, tmp_path / "another")
    with pytest.raises(StandingUnfit, match="deployment"):
        hear(other, tmp_path / "another")


def test_one_position_is_one_subscribers(log: MemoryLog, tmp_path: Path) -> None:
    """Guarantee: a second process with the same file is refused, and may go on when the first has ended."""
    state = tmp_path / "position"
    with closing(subscribe(log, state)), pytest.raises(FolderInUse):
        subscribe(log, state)
    subscribe(log, state).close()


def test_a_model_is_downloaded_and_compared(log: MemoryLog, tmp_path: Path) -> None:
    """Guarantee: the file holds the floats of the version, or there is none."""
    ref = models.store(log, FLAT, partition=PLACE)
    publish(log, announce_version(1, model=ref))
    with closing(subscribe(log)) as subscriber:
        found = subscriber.next(0)
        assert found is not None
        assert np.array_equal(np.fromfile(found.download(tmp_path / "weights.bin"), "<f4"), FLAT)
        log.delete_records(TopicPartition("models", PLACE), 1)
        with pytest.raises(ModelGone):
            found.download(tmp_path / "gone.bin")
    assert not (tmp_path / "gone.bin").exists()


def test_other_bytes_than_announced_are_no_model(log: MemoryLog, tmp_path: Path) -> None:
    """Guarantee: whoever replaces a body deceives nobody: its digest is in the signed record."""
    ref = models.store(log, FLAT, partition=PLACE)
    publish(log, announce_version(1, model=type(ref)(**{**_fields(ref), "sha256": bytes(32)})))
    with closing(subscribe(log)) as subscriber:
        found = subscriber.next(0)
        assert found is not None
        with pytest.raises(ModelGone, match="other bytes"):
            found.download(tmp_path / "weights.bin")


def _fields(ref: Any) -> dict[str, Any]:
    return {name: getattr(ref, name) for name in ref.__struct_fields__}
