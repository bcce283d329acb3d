"""What devices and a gateway say over HTTP beside the records themselves: names of headers, forms, retry windows.

Both halves of each form stand here. `docs/device-protocol.md` tells the whole protocol.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass

import msgspec

from schemas.canonical import MalformedError
from schemas.identifiers import BodyRef

# A record, or an answer, exactly as it stands in the log.
RECORD_TYPE = "application/vnd.fedlog.record"
PARTIAL_TYPE = "application/partial-upload"
BODY_TYPE = "application/octet-stream"

LEASE, RETRY, CODEC = "Fedlog-Lease", "Fedlog-Retry", "Fedlog-Codec"
# When the log appended a record: what a role signed is believed by that time.
APPENDED = "Fedlog-Appended"
REPR_DIGEST = "Repr-Digest"
UPLOAD_OFFSET, UPLOAD_COMPLETE = "Upload-Offset", "Upload-Complete"
UPLOAD_LENGTH, UPLOAD_LIMIT = "Upload-Length", "Upload-Limit"

# The longest time for which a gateway holds a request that waits for an answer.
WAIT_S_MAX = 25

_WINDOW = re.compile(r"min=([0-9]{1,9}), max=([0-9]{1,9})")
_DIGEST = re.compile(r"(?:^|,)\s*sha-256=:([A-Za-z0-9+/]{43}=):\s*(?:,|$)")


@dataclass(frozen=True, slots=True)
class Window:
    """From when to when a device asks again, in milliseconds: it draws a moment in between."""

    min_ms: int
    max_ms: int

    def __str__(self) -> str:
        return f"min={self.min_ms}, max={self.max_ms}"


def parse_window(text: str | None) -> Window | None:
    """A window as its header has it; None for anything else."""
    found = _WINDOW.fullmatch(text or "")
    window = found and Window(int(found[1]), int(found[2]))
    return window if window and window.min_ms <= window.max_ms else None


def write_bytes(data: bytes) -> str:
    """Bytes as a header carries them: a byte sequence of RFC 9651."""
    return f":{base64.b64encode(data).decode()}:"


def read_bytes(text: str) -> bytes:
    """The bytes in a header. Raises MalformedError."""
    if len(text) < 2 or text[0] != ":" or text[-1] != ":":
        raise MalformedError("no byte sequence between colons")
    try:
        return base64.b64decode(text[1:-1], validate=True)
    # Letters that are no ASCII are a ValueError, and no error of base64.
    except ValueError as error:
        raise MalformedError(f"no base64 ({error})") from error


def write_digest(sha256: bytes) -> str:
    """A digest as Repr-Digest has it (RFC 9530)."""
    return f"sha-256={write_bytes(sha256)}"


def read_digest(text: str) -> bytes:
    """The sha-256 of such a header, which may name other digests too. Raises MalformedError."""
    found = _DIGEST.search(text)
    if found is None:
        raise MalformedError("no sha-256 in it")
    return base64.b64decode(found[1])


def write_address(ref: BodyRef) -> bytes:
    """Where a body was stored, as JSON."""
    return msgspec.json.encode({**msgspec.structs.asdict(ref), "sha256": ref.sha256.hex()})


def read_address(data: bytes) -> BodyRef:
    """The same back. Raises MalformedError."""
    try:
        plain = msgspec.json.decode(data, type=dict[str, object])
        return msgspec.convert({**plain, "sha256": bytes.fromhex(str(plain["sha256"]))}, BodyRef)
    except (msgspec.MsgspecError, KeyError, ValueError) as error:
        raise MalformedError(f"no address of a body ({error})") from error
