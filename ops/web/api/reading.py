"""What is only looked at."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request

from ops.web.callers import find_caller
from ops.web.site import find_site

router = APIRouter()


@router.get("/position")
def show_position(request: Request) -> dict[str, str]:
    """Where the history stands."""
    site = find_site(request)
    return {"position": str(site.reader_for(find_caller(request)).position)}
