"""A model is downloaded as it stands in the log, whole or in parts, and never twice by whoever has it."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from client_agent.learning.allow_list import AllowList
from ops.operator import models
from ops.operator.deployments import find, issue_key
from ops.web.operating import Operator
from schemas.creations import STEWARD
from schemas.tensors import unpack
from schemas.topics import MODELS, PUBLISHED
from streams.log import EventLog, TopicPartition
from tests.serving import make_client, opened_site
from tests.unit.ops.operator.test_tasks import FLAT, halted
from tests.worlds.builders import KEY
from tests.worlds.ops_journal import PLACE, TASK, append, memory_log
from tests.worlds.releasing.public_log import announced


def test_a_body_has_its_digest_as_its_tag(tmp_path: Path) -> None:
    """Whole, by ranges, and not at all for a client that has it, with the position; an unknown version is 404."""
    log = memory_log()
    halted(log)
    path = f"/api/v1/tasks/{TASK}/versions/0/model"
    with opened_site(tmp_path, log) as (site, _), make_client(site) as client:
        whole = client.get(path)
        tag = f'"{hashlib.sha256(whole.content).hexdigest()}"'
        assert (whole.status_code, whole.headers["etag"]) == (200, tag)
        assert "immutable" in whole.headers["cache-control"]
        assert whole.headers["fedlog-position"] == str(site.reader.position)
        assert unpack(whole.content, "float32", count=6).tolist() == (FLAT * 2).tolist()
        for wanted, begin, end in (("bytes=2-4", 2, 5), ("bytes=5-", 5, None), ("bytes=-3", -3, None)):
            part = client.get(path, headers={"Range": wanted, "If-Range": tag})
            assert (part.status_code, part.content) == (206, whole.content[begin:end])
        assert client.get(path, headers={"Range": "bytes=2-4", "If-Range": '"another"'}).content == whole.content
        assert client.get(path, headers={"Range": "bytes=99999-"}).status_code == 416
        known = client.get(path, headers={"If-None-Match": tag})
        assert (known.status_code, known.content) == (304, b"")
        assert client.get(f"/api/v1/tasks/{TASK}/versions/9/model").json()["code"] == "version_unknown"


def announce(log: EventLog, action: str, version: int, **said: Any) -> None:
    """A rollout's word, in the name of this log's own deployment."""
    deployment = find(log, KEY.public_key)
    append(log, PUBLISHED.name, announced(action, version, deployment=deployment, **said))


def test_a_service_asks_for_what_is_in_production(tmp_path: Path) -> None:
    """By channel: the newest, or what a rollout has signed; for a device in a canary the one on trial."""
    log = memory_log()
    halted(log)
    path = f"/api/v1/tasks/{TASK}/model"
    with opened_site(tmp_path, log) as (site, _), make_client(site) as client:
        newest = client.get(path)
        version = newest.headers["fedlog-version"]
        assert newest.content == client.get(f"/api/v1/tasks/{TASK}/versions/{version}/model").content
        assert client.get(path, params={"channel": "promoted"}).json()["code"] == "nothing_promoted"
        announce(log, "promoted", 7, seq=1, role="aggregator")
        assert client.get(path, params={"channel": "promoted"}).status_code == 404
        announce(log, "promoted", 0, seq=1)
        promoted = client.get(path, params={"channel": "promoted"})
        assert (promoted.status_code, promoted.headers["fedlog-version"]) == (200, "0")
        assert promoted.headers["etag"] == f'"{hashlib.sha256(promoted.content).hexdigest()}"'
        assert "no-cache" in promoted.headers["cache-control"]
        known = client.get(path, params={"channel": "promoted"}, headers={"If-None-Match": promoted.headers["etag"]})
        assert known.status_code == 304


def test_a_device_in_a_canary_asks_for_its_own(tmp_path: Path) -> None:
    """And gets what a rollback leads to; what cannot be understood is refused, and what is not there is 404."""
    log = memory_log()
    halted(log)
    path, asked = f"/api/v1/tasks/{TASK}/model", {"channel": "promoted", "device": "a"}
    with opened_site(tmp_path, log) as (site, _), make_client(site) as client:
        announce(log, "promoted", 0, seq=1)
        announce(log, "canary", 9, seq=2, share=1.0)
        assert client.get(path, params=asked).json()["code"] == "version_unknown"
        announce(log, "rolledback", 9, seq=3, to=0)
        assert client.get(path, params=asked).headers["fedlog-version"] == "0"
        for wrong in ({"channel": "best"}, {"colour": "blue"}, {"channel": "promoted", "at": f"{TASK}@0"}):
            assert client.get(path, params=wrong).status_code == 422
        assert client.get("/api/v1/tasks/nobody/model").json()["code"] == "task_unknown"


def test_a_model_that_retention_has_taken_is_gone(tmp_path: Path) -> None:
    """410, in the words of the console."""
    log = memory_log()
    halted(log)
    with opened_site(tmp_path, log) as (site, _), make_client(site) as client:
        place = TopicPartition(MODELS.name, PLACE)
        log.delete_records(place, log.bounds(place).end)
        gone = client.get(f"/api/v1/tasks/{TASK}/versions/0/model")
        assert (gone.status_code, gone.json()["code"]) == (410, models.ModelGone.code)


def test_models_are_in_memory_for_a_few_at_a_time(tmp_path: Path) -> None:
    """Who downloads more at once than two has to wait; the others have places of their own."""
    log = memory_log()
    halted(log)
    path = f"/api/v1/tasks/{TASK}/versions/0/model"
    with opened_site(tmp_path, log) as (site, _), make_client(site) as client, make_client(site, "admin") as other:
        for _ in range(2):
            site.downloads.take("a viewer")
        assert client.get(path).json()["code"] == "rate_exceeded"
        assert other.get(path).status_code == 200
        site.downloads.leave("a viewer")
        # Each gives its place back, one that fails too.
        for _ in range(3):
            assert client.get(path).status_code == 200
        place = TopicPartition(MODELS.name, PLACE)
        log.delete_records(place, log.bounds(place).end)
        for _ in range(3):
            assert client.get(path).status_code == 410


def test_whoever_downloads_holds_up_no_operator(tmp_path: Path) -> None:
    """A task is paused while a model is being read, however long that takes."""
    log, is_reading, may_end = memory_log(), threading.Event(), threading.Event()
    halted(log)

    @contextmanager
    def open_slowly() -> Iterator[EventLog]:
        is_reading.set()
        may_end.wait(60)
        yield log

    with opened_site(tmp_path, log) as (site, _):
        operator = Operator(
            partial(nullcontext, log),
            open_bodies=open_slowly,
            find_key=partial(issue_key, key=KEY, role=STEWARD),
            reader=site.reader,
            allows=AllowList(),
        )
        slow = replace(site, operator=operator)
        with make_client(slow) as client, make_client(slow, "operator") as acting, ThreadPoolExecutor(1) as pool:
            download = pool.submit(client.get, f"/api/v1/tasks/{TASK}/versions/0/model")
            try:
                assert is_reading.wait(60)
                assert acting.post(f"/api/v1/tasks/{TASK}/pause").status_code == 200
                assert not download.done()
            finally:
                may_end.set()
            assert download.result(60).status_code == 200
