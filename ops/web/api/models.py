"""A version's model as it stands in the log: its bytes, whose digest is the entity tag, whole or by ranges."""

from __future__ import annotations

import re
from functools import partial
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from ops.operator.errors import VersionUnknown
from ops.operator.models import User, choose_promoted
from ops.web.api.asked import POSITION_HEADER, Asked, Question, list_objects
from ops.web.api.reading import TaskName, VersionNumber
from ops.web.api.rows import require_task, require_version
from ops.web.api.sending import HeldResponse
from ops.web.problems import Problem, RequestRefused
from ops.web.site import find_site
from schemas.identifiers import BodyRef

router = APIRouter(tags=["models"])

VERSION_HEADER = "Fedlog-Version"
_RANGE = re.compile(r"bytes=([0-9]{0,15})-([0-9]{0,15})")
# Where the body stands; who may ask for a version may have it, whoever may see the facts.
_BODY = """
SELECT model_topic AS topic, model_partition AS "partition", model_offsets AS offsets, model_sha256 AS sha256,
    model_size AS size, model_codec AS codec
FROM facts.model_published WHERE task = $task AND version = $version LIMIT 1
"""
_BYTES = {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}


class Wanted(BaseModel):
    """Which version is asked for, and for whom."""

    model_config = ConfigDict(extra="forbid")
    channel: Annotated[
        Literal["newest", "promoted"], Field(description="What was published last, or what is in production.")
    ] = "newest"
    device: Annotated[
        str | None, Field(max_length=63, description="Of `promoted`: for this device, which may be in a canary.")
    ] = None
    cohort: Annotated[str, Field(max_length=32, description="The cohort of that device.")] = ""


@router.get(
    "/tasks/{task}/model",
    response_class=Response,
    responses={200: _BYTES, 206: _BYTES, 304: {"description": "The client has it."}},
)
def download_wanted(
    request: Request,
    asked: Question,
    *,
    task: TaskName,
    wanted: Annotated[Wanted, Query()],
    part: Annotated[str | None, Header(alias="range", max_length=100)] = None,
) -> Response:
    """The body of the newest version, or of the one that is in production now; `Fedlog-Version` says which.

    What is in production is what a rollout has signed in the log; 404 where nothing is.
    """
    require_task(asked, task)
    version = _choose(request, asked, task=task, wanted=wanted)
    answer = download_model(request, asked, task=task, version=version, part=part)
    answer.headers[VERSION_HEADER] = str(version)
    # Of a version the bytes stay; which version it is may change with the next.
    answer.headers["Cache-Control"] = "private, no-cache"
    return answer


def _choose(request: Request, asked: Asked, *, task: str, wanted: Wanted) -> int:
    if wanted.channel == "newest":
        found = asked.ask("SELECT max(version) FROM versions WHERE task = $task", task=task).rows
        if not found or found[0][0] is None:
            raise VersionUnknown(f"{task!r} has no version yet.")
        return int(found[0][0])
    if asked.at is not None:
        raise RequestRefused("channel=promoted: what is in production is told as of now; leave `at` out.")
    user = User(device=wanted.device or "", cohort=wanted.cohort)
    return choose_promoted(find_site(request).operator.read_standing(task), task, user=user)


@router.get(
    "/tasks/{task}/versions/{version}/model",
    response_class=Response,
    responses={200: _BYTES, 206: _BYTES, 304: {"description": "The client has it."}},
)
def download_model(
    request: Request,
    asked: Question,
    *,
    task: TaskName,
    version: VersionNumber,
    part: Annotated[str | None, Header(alias="range", max_length=100)] = None,
) -> Response:
    """The body of a version: a vector of float32 in one zstd frame; `fedlog model export` writes files from it.

    Two at once for each caller; 429 says when to ask again.
    """
    found = require_version(asked, task, version=version)
    site = find_site(request)
    ref = _read_ref(next(list_objects(site.reader.ask(_BODY, parameters={"task": task, "version": version}))))
    tag = f'"{ref.sha256.hex()}"'
    # A version never changes: whoever has it need not ask again.
    headers = {"ETag": tag, "Cache-Control": "private, max-age=31536000, immutable", "Accept-Ranges": "bytes"}
    headers[POSITION_HEADER] = str(found.position)
    if tag in [each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")]:
        return Response(status_code=304, headers=headers)
    headers["Fedlog-Codec"] = ref.codec
    # A part of another body than the client has would be put together with it.
    wanted = part if request.headers.get("if-range", tag) == tag else None
    site.downloads.take(asked.caller.subject)
    leave = partial(site.downloads.leave, asked.caller.subject)
    try:
        return HeldResponse(_cut(site.operator.read_body(ref), wanted, headers=headers), leave)
    except BaseException:
        leave()
        raise


def _read_ref(row: dict[str, object]) -> BodyRef:
    return BodyRef(**{**row, "offsets": tuple(row["offsets"]), "sha256": bytes.fromhex(str(row["sha256"]))})  # type: ignore[arg-type]


def _cut(data: bytes, wanted: str | None, *, headers: dict[str, str]) -> Response:
    found = _RANGE.fullmatch(wanted) if wanted else None
    # Several ranges, or another unit: a server may answer with the whole (RFC 9110).
    if found is None or found[0] == "bytes=-":
        return Response(data, media_type="application/octet-stream", headers=headers)
    begin, end = _find_bounds(found[1], found[2], size=len(data))
    if begin >= end:
        problem = Problem(
            status=416, code="range_unsatisfiable", title="No such part.", detail=f"The body has {len(data)} bytes."
        )
        return problem.to_response({"Content-Range": f"bytes */{len(data)}"})
    headers["Content-Range"] = f"bytes {begin}-{end - 1}/{len(data)}"
    return Response(data[begin:end], 206, media_type="application/octet-stream", headers=headers)


def _find_bounds(first: str, last: str, *, size: int) -> tuple[int, int]:
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(size, int(last) + 1) if last else size
