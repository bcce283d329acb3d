"""What everybody may read: models, how many of them are fetched at the same time, and what is in production."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

from ops.gateway.downloads import FETCHES_MAX, ModelCache
from schemas.identifiers import BodyRef
from schemas.rollouts import read_production
from schemas.topics import PUBLISHED, partition_of
from streams.log import Draft
from streams.memory import MemoryLog
from tests.worlds.builders import body_ref, trust
from tests.worlds.device_world import TASK
from tests.worlds.gateway.asking import Behind, opened, wait_until
from tests.worlds.releasing.public_log import announced


def test_whoever_asks_for_every_model_holds_up_nobody(tmp_path: Path) -> None:
    """Guarantee: a few models at a time are in memory, and the threads that append are left alone."""
    refs = [
        BodyRef(topic="models", partition=0, offsets=(0,), sha256=bytes([number]) * 32, size=1, codec="float32")
        for number in range(20)
    ]
    at_once, most, lock = 0, 0, threading.Lock()
    full, go = threading.Event(), threading.Event()

    def read(_: object, ref: BodyRef) -> bytes:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
            if at_once == FETCHES_MAX:
                full.set()
        go.wait(10)
        with lock:
            at_once -= 1
        return ref.sha256

    async def ask() -> list[Path]:
        cache = ModelCache(MemoryLog([], partitions=1), tmp_path)
        asked = asyncio.gather(*map(cache.open, refs))
        # This too needs a thread, as an append does.
        await asyncio.to_thread(full.wait, 60)
        go.set()
        return await asked

    with patch.object(ModelCache, "_read", read):
        paths = asyncio.run(ask())
    assert most == FETCHES_MAX
    assert [path.read_bytes() for path in paths] == [ref.sha256 for ref in refs]


@pytest.fixture
def behind(tmp_path: Path) -> Iterator[Behind]:
    """A gateway before a world."""
    with opened(tmp_path) as found:
        yield found


def announce(behind: Behind, record: bytes) -> None:
    """A rollout's word in the log, which the gateway follows."""
    partition = partition_of(TASK, behind.world.log.partitions)
    behind.world.log.append([Draft(topic=PUBLISHED.name, partition=partition, value=record)])


def test_a_device_is_told_what_is_in_production(behind: Behind) -> None:
    """Guarantee: 404 before a promotion; then the version with its model and signed record, 304 until it changes."""
    path = f"/v1/tasks/{TASK}/production"
    assert behind.ask("GET", path).problem["code"] == "nothing_promoted"
    assert behind.ask("GET", "/v1/tasks/nobody/production").problem["code"] == "unknown_task"
    announce(behind, announced("promoted", 1, seq=1, task=TASK, model=body_ref("one", "models")))
    wait_until(lambda: behind.ask("GET", path).status == 200)
    told = behind.ask("GET", path)
    assert json.loads(told.data)["promoted"]["model"]["sha256"] == body_ref("one", "models").sha256.hex()
    assert read_production(told.data, trust(), task=TASK).promoted == 1
    assert behind.ask("GET", path, headers={"If-None-Match": told.headers["etag"]}).status == 304
    announce(behind, announced("promoted", 2, seq=2, task=TASK, role="aggregator"))
    announce(
        behind, announced("canary", 2, seq=3, task=TASK, share=1.0, cohorts=["a"], model=body_ref("two", "models"))
    )
    wait_until(lambda: behind.ask("GET", path, headers={"If-None-Match": told.headers["etag"]}).status == 200)


def test_a_device_in_a_canary_gets_it_and_after_a_rollback_what_that_leads_to(behind: Behind) -> None:
    """Guarantee: by device and cohort, as every other reader chooses; nobody keeps what was rolled back."""
    path = f"/v1/tasks/{TASK}/production?device={behind.phone.device}&cohort="
    one, two = body_ref("one", "models"), body_ref("two", "models")

    def chosen(cohort: str) -> int | None:
        told = behind.ask("GET", path + cohort)
        return json.loads(told.data)["chosen"]["version"] if told.status == 200 else None

    announce(behind, announced("canary", 2, seq=1, task=TASK, share=1.0, cohorts=["a"], model=two))
    wait_until(lambda: chosen("a") == 2)
    assert behind.ask("GET", path + "b").problem["code"] == "nothing_promoted"
    announce(behind, announced("promoted", 1, seq=2, task=TASK, model=one))
    announce(behind, announced("canary", 2, seq=3, task=TASK, share=1.0, cohorts=["a"], model=two))
    wait_until(lambda: (chosen("a"), chosen("b")) == (2, 1))
    announce(behind, announced("rolledback", 2, seq=4, task=TASK, to=1, reason="at_least", model=one))
    wait_until(lambda: (chosen("a"), chosen("b")) == (1, 1))


@pytest.mark.parametrize("query", ["device=%2e%2e%2f", "device=a&cohort=%20", f"device={'a' * 64}"])
def test_a_name_that_is_none_is_refused(behind: Behind, query: str) -> None:
    """Guarantee: what a check-in could not say is no name here."""
    told = behind.ask("GET", f"/v1/tasks/{TASK}/production?{query}")
    assert (told.status, told.problem["code"]) == (400, "request_unreadable")
