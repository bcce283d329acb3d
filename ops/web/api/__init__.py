"""The API under `/api/v1`; OpenAPI comes from this code.

`asked`: what every question may say, and how its answer is written. `rows`: tables as lists, in pages.
`reading`: what is only looked at. `privacy`: the report of a task. `measuring`: whether what devices have has moved.
`models`: a version as a file; `sending`: how such a large answer goes out. `streams`: everything new as it happens.
`changing`: what operators do.
"""

from __future__ import annotations

from fastapi import APIRouter

from ops.web.api import changing, measuring, models, privacy, reading, streams

PREFIX = "/api/v1"


def make_router() -> APIRouter:
    """All routes of the API."""
    router = APIRouter(prefix=PREFIX)
    for part in (streams, reading, privacy, measuring, models, changing):
        router.include_router(part.router)
    return router
