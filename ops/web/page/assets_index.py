"""Style and script, as they lie in the package. Their addresses hold a digest, so that browsers may keep them."""

from __future__ import annotations

import functools
import gzip
import hashlib
import mimetypes
from importlib import resources

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

NAMES = ("page.css", "page.js", "icon.svg", "htmx.min.js", "hx-sse.min.js")
_YEAR = "public, max-age=31536000, immutable"


@functools.cache
def read_asset(name: str) -> bytes:
    """The bytes of one of NAMES."""
    return resources.files(__package__).joinpath("assets", name).read_bytes()


@functools.cache
def _pack_asset(name: str) -> bytes:
    # Of assets alone: packed, a page's length would tell of the secret in it to whoever can add words to it.
    return gzip.compress(read_asset(name), mtime=0)


@functools.cache
def address_of(name: str) -> str:
    """The address of one of NAMES; another release has another."""
    # A digest in the address, or a browser would keep the style of the release before.
    return f"/assets/{hashlib.sha256(read_asset(name)).hexdigest()[:12]}/{name}"


def serve_asset(request: Request) -> Response:
    """One of NAMES, whatever digest its address holds."""
    name = request.path_params["name"]
    # A closed list: no path of a request ever reaches the disk.
    if name not in NAMES:
        return PlainTextResponse("There is no such file.", 404)
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    # An address with another digest may be that of another release, and is asked for again.
    kept = _YEAR if request.url.path == address_of(name) else "no-cache"
    headers = {"Cache-Control": kept, "Vary": "Accept-Encoding"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(_pack_asset(name), media_type=kind, headers={**headers, "Content-Encoding": "gzip"})
    return Response(read_asset(name), media_type=kind, headers=headers)
