"""What a gateway refuses at its door, as the answer that selector or registrar would have given.

Nobody has signed it, and it says no: whoever controls the road can make a device wait as long by not answering. What
would make a device do something, a lease, a certificate or an outcome, is never read from a refusal.
"""

from __future__ import annotations

import hashlib
from typing import get_args

import msgspec
import structlog

from client_agent.links.requests import Reply
from schemas.canonical import MalformedError, decode
from schemas.events import Declined, DeviceCheckedIn, EnrolmentRefused, EnrolmentRequested
from schemas.events.enrolment import EnrolmentRefusal
from schemas.events.selection import IdentityReason
from schemas.signing import parse_signed

REFUSED = (401, 403)

logger = structlog.get_logger(__name__)


class _Problem(msgspec.Struct):
    code: str
    detail: str = ""


def read_refusal(reply: Reply, message: bytes) -> Declined | EnrolmentRefused | None:
    """The answer to a check-in or a request to be enrolled that a gateway refused for who asks; None for any other."""
    if reply.status not in REFUSED:
        return None
    try:
        told = msgspec.json.decode(reply.data, type=_Problem)
        said = decode(parse_signed(message).payload, DeviceCheckedIn | EnrolmentRequested)  # type: ignore[arg-type]
    except (msgspec.MsgspecError, MalformedError):
        return None
    digest = hashlib.sha256(message).digest()
    match said:
        case DeviceCheckedIn() if told.code in get_args(IdentityReason):
            logger.warning("checkin_refused", device=said.device, reason=told.code, detail=told.detail[:300])
            return Declined(
                device=said.device,
                checkin_sha256=digest,
                task=said.task,
                reason=told.code,  # type: ignore[arg-type]
                retry_after_ms=reply.window.min_ms,
            )
        case EnrolmentRequested() if told.code in get_args(EnrolmentRefusal):
            return EnrolmentRefused(
                device=said.device, request_sha256=digest, population=said.population, reason=told.code
            )
    return None
