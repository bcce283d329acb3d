"""A model is downloaded as it stands in the log, whole or in parts, and never twice by whoever has it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ops.operator import models
from schemas.tensors import unpack
from schemas.topics import MODELS
from streams.log import TopicPartition
from tests.serving import make_client, opened_site
from tests.unit.ops.operator.test_tasks import FLAT, halted
from tests.worlds.ops_journal import PLACE, TASK, memory_log


def test_a_body_has_its_digest_as_its_tag(tmp_path: Path) -> None:
    """Whole, by ranges, and not at all for a client that has it; an unknown version is 404."""
    log = memory_log()
    halted(log)
    path = f"/api/v1/tasks/{TASK}/versions/0/model"
    with opened_site(tmp_path, log) as (site, _), make_client(site) as client:
        whole = client.get(path)
        tag = f'"{hashlib.sha256(whole.content).hexdigest()}"'
        assert (whole.status_code, whole.headers["etag"]) == (200, tag)
        assert "immutable" in whole.headers["cache-control"]
        assert unpack(whole.content, "float32", count=6).tolist() == (FLAT * 2).tolist()
        for wanted, begin, end in (("bytes=2-4", 2, 5), ("bytes=5-", 5, None), ("bytes=-3", -3, None)):
            part = client.get(path, headers={"Range": wanted, "If-Range": tag})
            assert (part.status_code, part.content) == (206, whole.content[begin:end])
        assert client.get(path, headers={"Range": "bytes=2-4", "If-Range": '"another"'}).content == whole.content
        assert client.get(path, headers={"Range": "bytes=99999-"}).status_code == 416
        known = client.get(path, headers={"If-None-Match": tag})
        assert (known.status_code, known.content) == (304, b"")
        assert client.get(f"/api/v1/tasks/{TASK}/versions/9/model").json()["code"] == "version_unknown"


def test_a_model_that_retention_has_taken_is_gone(tmp_path: Path) -> None:
    """410, in the words of the console."""
    log = memory_log()
    halted(log)
    with opened_site(tmp_path, log) as (site, _), make_client(site) as client:
        place = TopicPartition(MODELS.name, PLACE)
        log.delete_records(place, log.bounds(place).end)
        gone = client.get(f"/api/v1/tasks/{TASK}/versions/0/model")
        assert (gone.status_code, gone.json()["code"]) == (410, models.ModelGone.code)
