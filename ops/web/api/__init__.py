"""The API under `/api/v1`; OpenAPI comes from this code.

`asked`: what every question may say: as of when, not older than, which page; and its answer.
`reading`: what is only looked at. `changing`: what operators do.
"""

from __future__ import annotations

from fastapi import APIRouter

from ops.web.api import reading

PREFIX = "/api/v1"


def make_router() -> APIRouter:
    """All routes of the API."""
    router = APIRouter(prefix=PREFIX)
    router.include_router(reading.router)
    return router
