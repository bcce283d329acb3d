"""What is in production, as a gateway passes it on: for programs as it is, and with the signed records that say so.

Both halves of the form. A gateway signs nothing: whoever acts on it folds the records anew.
"""

from __future__ import annotations

import json
from typing import Any

from schemas.announcements.reading import read_announcement
from schemas.canonical import MalformedError, to_plain
from schemas.certificates import Trust
from schemas.identifiers import TaskId, Version
from schemas.rollouts.standing import Standing, evolve


def write_production(task: TaskId, standing: Standing, *, chosen: Version | None = None) -> bytes:
    """The form; `chosen` is the version of a device that has asked, where one has."""
    told: dict[str, Any] = {
        "task": task,
        "promoted": None
        if standing.promoted is None
        else {**_describe(standing, standing.promoted), "since_ms": standing.promoted_ms},
        "candidate": None
        if standing.candidate is None
        else {
            **_describe(standing, standing.candidate),
            "share": standing.share,
            "cohorts": sorted(standing.cohorts),
        },
        "records": list(standing.records),
    }
    # A program that believes its gateway needs no hash of its own.
    if chosen is not None:
        told["chosen"] = _describe(standing, chosen)
    return json.dumps(told, ensure_ascii=False, sort_keys=True).encode()


def read_production(data: bytes, trust: Trust, *, task: TaskId) -> Standing:
    """What the records in it say, each checked; what stands beside them is not believed. Raises MalformedError.

    Nothing tells whether a newer record is held back: keep the `seq` of what was seen, and take none below it.
    """
    try:
        records = json.loads(data)["records"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise MalformedError(f"nothing that a gateway says of a task ({type(error).__name__})") from error
    standing = Standing()
    for record in records if isinstance(records, list) else [None]:
        said = read_announcement(record.encode(), trust) if isinstance(record, str) else None
        if said is None or said.data.task != task:
            raise MalformedError(f"a record that no rollout of {task!r} has signed")
        standing = evolve(standing, said)
    return standing


def _describe(standing: Standing, version: Version) -> dict[str, Any]:
    model = standing.find_model(version)
    return {"version": version, "model": None if model is None else to_plain(model)}
