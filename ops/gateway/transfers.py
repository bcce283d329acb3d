"""Uploads over HTTP: draft-ietf-httpbis-resumable-upload, with the digest of the whole body (RFC 9530) from the start.

POST creates, and takes bytes where some come along; HEAD tells how many have come; PATCH goes on; DELETE ends it. The
request that completes an upload is answered when the body stands in the log, with its address.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from ops.gateway.access.limits import Limits
from ops.gateway.behind.appending import Appending
from ops.gateway.entry import Entrant, Entry, require_length
from ops.gateway.proofs import Proofs
from ops.gateway.refusals import SOON, Conflict, TooLarge, Unproven, Unreadable
from ops.gateway.uploads import Upload, Uploads
from ops.web.serving import POUR
from schemas.canonical import MalformedError
from schemas.http.device_protocol import (
    PARTIAL_TYPE,
    REPR_DIGEST,
    RETRY,
    UPLOAD_COMPLETE,
    UPLOAD_LENGTH,
    UPLOAD_LIMIT,
    UPLOAD_OFFSET,
    read_digest,
    write_address,
)

PATH = "/v1/uploads"
_PROBLEMS = "https://iana.org/assignments/http-problem-types#"
_INTEGER = re.compile("[0-9]{1,15}")


@dataclass(frozen=True, slots=True)
class Transfers:
    """The resource of uploads. `base`: how this gateway is named from outside, for an upload belongs to it."""

    entry: Entry
    proofs: Proofs
    uploads: Uploads
    appending: Appending
    limits: Limits
    base: str = ""

    async def create(self, request: Request) -> Response:
        """A new upload."""
        entrant = self.entry.admit(request)
        await self._prove(request, entrant)
        length, is_whole = _read_length(request), _read_complete(request)
        if length > (most := entrant.body_bytes_max):
            limit = {UPLOAD_LIMIT: f"max-size={most}"}
            raise TooLarge(f"{length:,} bytes, and no update of this task has more than {most:,}.", headers=limit)
        # No record can name a body without bytes.
        if length == 0:
            raise Unreadable("An update has a body.")
        self._require_length(request, length, is_whole=is_whole)
        self.appending.require_room(0)
        upload = self.uploads.create(entrant, sha256=_read_digest(request), length=length)
        return await self._continue(request, upload, is_whole=is_whole, is_new=True)

    async def tell(self, request: Request) -> Response:
        """How much of an upload has come."""
        upload = await self._find(request, self.entry.identify(request))
        # Whoever asks is not sending any more, whatever its old connection looks like from here.
        upload.interrupt()
        async with upload.turn:
            return Response(status_code=204, headers=self._describe(upload))

    async def append(self, request: Request) -> Response:
        """More of an upload."""
        upload = await self._find(request, self.entry.admit(request))
        if request.headers.get("content-type", "") != PARTIAL_TYPE:
            raise Unreadable(f"The content of such a request is {PARTIAL_TYPE}.", code="media_type")
        given, is_whole = _read_integer(request, UPLOAD_OFFSET), _read_complete(request)
        if upload.address is None:
            upload.interrupt()
        async with upload.turn:
            if given != upload.offset:
                raise Conflict(
                    f"The upload stands at {upload.offset}, not at {given}.",
                    code="offset_differs",
                    headers=self._describe(upload),
                    type=f"{_PROBLEMS}mismatching-upload-offset",
                    **{"expected-offset": upload.offset, "provided-offset": given},
                )
            self._require_length(request, upload.claim.length - upload.offset, is_whole=is_whole, upload=upload)
            self.appending.require_room(0)
            return await self._receive(request, upload, is_whole=is_whole, status=204)

    async def tell_options(self, request: Request) -> Response:
        """That uploads can be gone on with, for whoever asks before."""
        del request
        return Response(status_code=204, headers={"Accept-Patch": PARTIAL_TYPE, "Allow": "OPTIONS, POST"})

    async def end(self, request: Request) -> Response:
        """Forget an upload."""
        # What stands in the log already stays there, and counts for nothing without its submission.
        self.uploads.discard(await self._find(request, self.entry.identify(request)))
        return Response(status_code=204)

    async def fetch(self, request: Request) -> Response:
        """The address of a body that stands in the log."""
        upload = await self._find(request, self.entry.identify(request))
        if upload.address is None:
            raise Conflict("The upload is not complete.", code="incomplete")
        return self._tell_address(upload)

    async def _continue(self, request: Request, upload: Upload, *, is_whole: bool, is_new: bool) -> Response:
        async with upload.turn:
            # An empty creation of what is under way finds it; one with bytes begins anew, for it has no offset.
            if upload.offset and _has_content(request) and upload.address is None:
                upload.held.restart()
            return await self._receive(request, upload, is_whole=is_whole, status=201)

    async def _receive(self, request: Request, upload: Upload, *, is_whole: bool, status: int) -> Response:
        if upload.address is None:
            try:
                await upload.receive(partial(_pour, request), is_whole=is_whole)
            except TooLarge:
                # Nobody knows what it is any more: whoever sends more than there is may have sent anything before.
                self.uploads.discard(upload)
                raise
            if not is_whole:
                return Response(status_code=status, headers=self._describe(upload))
            await self.uploads.finish(upload)
        return self._tell_address(upload)

    async def _find(self, request: Request, entrant: Entrant) -> Upload:
        await self._prove(request, entrant)
        upload = self.uploads.find(request.path_params["name"])
        if upload.claim.lease != entrant.lease.lease:
            raise Unproven("The upload is under another lease.", code="lease_differs")
        return upload

    async def _prove(self, request: Request, entrant: Entrant) -> None:
        self.proofs.require(request, entrant)
        # After the proof: a lease that somebody has overheard uses up nothing of its device's.
        await self.limits.take("device", entrant.lease.device)

    def _require_length(self, request: Request, left: int, *, is_whole: bool, upload: Upload | None = None) -> None:
        """Raises TooLarge, Unreadable where a request brings another number of bytes than it may; none is read yet."""
        headers = {} if upload is None else self._describe(upload)
        if upload is not None and upload.address is not None and _has_content(request):
            raise _refuse_length("The upload is complete: nothing can be added.", headers)
        try:
            given = require_length(request, left)
        except TooLarge as error:
            raise TooLarge(str(error), headers=headers) from error
        # A body in chunks is counted as it comes.
        if is_whole and given != left and "transfer-encoding" not in request.headers:
            raise _refuse_length(f"{given:,} bytes are said to be the rest, and {left:,} are missing.", headers)

    def _tell_address(self, upload: Upload) -> Response:
        assert upload.address is not None
        body = write_address(upload.address)
        return Response(body, media_type="application/json", headers=self._describe(upload))

    def _describe(self, upload: Upload) -> dict[str, str]:
        return {
            "Location": f"{self.base}{PATH}/{upload.name}",
            UPLOAD_OFFSET: str(upload.offset),
            UPLOAD_COMPLETE: "?1" if upload.address is not None else "?0",
            UPLOAD_LENGTH: str(upload.claim.length),
            UPLOAD_LIMIT: f"max-size={upload.claim.length}",
            RETRY: str(SOON),
            "Cache-Control": "no-store",
        }


async def _pour(request: Request, take: Callable[[bytes], object]) -> None:
    try:
        # The connection's own way, where it has one: no task is woken for each part.
        if (pour := request.scope.get(POUR)) is not None:
            await pour(take)
            return
        async for part in request.stream():
            if part:
                take(part)
    except ClientDisconnect as error:
        raise Unreadable("The connection has ended.", code="cut") from error


def _has_content(request: Request) -> bool:
    return request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers


def _refuse_length(why: str, headers: Mapping[str, str]) -> Unreadable:
    return Unreadable(why, code="length_differs", headers=headers, type=f"{_PROBLEMS}inconsistent-upload-length")


def _read_complete(request: Request) -> bool:
    text = request.headers.get(UPLOAD_COMPLETE, "")
    if text not in ("?0", "?1"):
        raise Unreadable(f"{UPLOAD_COMPLETE} is ?0 or ?1.")
    return text == "?1"


def _read_integer(request: Request, name: str) -> int:
    text = request.headers.get(name, "")
    if not _INTEGER.fullmatch(text):
        raise Unreadable(f"{name} is a whole number.")
    return int(text)


def _read_length(request: Request) -> int:
    """How long the whole body is: what is said, or follows from a creation that brings all of it."""
    if UPLOAD_LENGTH not in request.headers and _read_complete(request):
        return _read_integer(request, "Content-Length")
    return _read_integer(request, UPLOAD_LENGTH)


def _read_digest(request: Request) -> bytes:
    given = request.headers.getlist(REPR_DIGEST)
    try:
        return read_digest(given[0] if len(given) == 1 else "")
    except MalformedError as error:
        raise Unreadable(f"{REPR_DIGEST}: {error}.", code="digest_missing") from error
