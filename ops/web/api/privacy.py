"""The privacy report of a task: what it promises, what it has spent, and what is left."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from ops.web.api.asked import Question, list_objects, write_answer
from ops.web.api.reading import TaskName
from ops.web.api.rows import require_task

router = APIRouter(tags=["reading"])

_POLICY = """
SELECT noise_multiplier, rho_max, (policy -> 'privacy' ->> 'delta')::DOUBLE AS delta, clip_norm, policy_sha256
FROM policies WHERE task = $task
"""
_SPENT = """
SELECT count(*) FILTER (outcome = 'charged') AS rounds_charged,
    count(*) FILTER (outcome <> 'charged') AS rounds_withheld, max(rho_total) AS rho_total, max(epsilon) AS epsilon,
    max(participations_max) AS participations_max
FROM ledger WHERE task = $task
"""


@router.get("/tasks/{task}/privacy")
def report_privacy(asked: Question, task: TaskName) -> Response:
    """What a task promises each device (one device is the unit, zero-out the adjacency), has spent, and has left."""
    found = require_task(asked, task)
    policy = next(list_objects(asked.ask(_POLICY, task=task)), {})
    spent = next(list_objects(asked.ask(_SPENT, task=task)))
    told: dict[str, Any] = {
        "task": task,
        "private": policy.get("noise_multiplier") is not None,
        "unit": "one device",
        "adjacency": "zero-out: a device's updates replaced by zero vectors",
        "policy": policy,
        "spent": spent,
        "rho_left": None,
    }
    # In zCDP what was spent adds up, so that what is left is a difference; of epsilons it would not be.
    if told["private"]:
        told["rho_left"] = max(0.0, policy["rho_max"] - (spent["rho_total"] or 0.0))
    return write_answer(found, told)
