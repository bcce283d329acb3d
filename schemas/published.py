"""The public contract: a CloudEvents 1.0 record in JSON for every version, for services that know nothing of fedlog.

Each carries the head of the journal that published it, and an Ed25519 signature over the record without `signature`, in
its canonical form (keys sorted, no spaces): a checkpoint, against which a journal that was cut or rewritten shows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from schemas.canonical import MalformedError, plain
from schemas.events import ModelPublished

EVENT_TYPE = "io.fedlog.model.published.v1"
EXPORT_TYPE = "io.fedlog.journals.exported.v1"
SIGNATURE = ("signedby", "signature")


class Head(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a journal's chain stands right after its batch `seq`; `head` in hex."""

    topic: str
    partition: int
    seq: int
    head: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A signed record as it was read: its id, the heads that it vouches for, and the public key that signed it.

    Records of releases before there were checkpoints have no head and no key.
    """

    id: str
    heads: tuple[Head, ...]
    signed_by: bytes | None


def announced(published: ModelPublished, time_ms: int, *, head: Head) -> dict[str, Any]:
    """What is said of one version, not yet signed: a pure function of the journal."""
    return {
        "specversion": "1.0",
        "id": cloud_event_id(published),
        "source": f"/fedlog/tasks/{published.task}",
        "type": EVENT_TYPE,
        "subject": published.task,
        "time": _moment(time_ms),
        "datacontenttype": "application/json",
        "data": {
            "task": published.task,
            "version": published.version,
            "round": published.round,
            "model": plain(published.model),
            "journal": msgspec.to_builtins(head),
        },
    }


def heads_said(heads: Iterable[Head], time_ms: int) -> dict[str, Any]:
    """What is said of the journals in an export, not yet signed."""
    return {
        "specversion": "1.0",
        "id": f"journals/{time_ms}",
        "source": "/fedlog/journals",
        "type": EXPORT_TYPE,
        "time": _moment(time_ms),
        "datacontenttype": "application/json",
        "data": {"journals": msgspec.to_builtins([*heads])},
    }


def signed(event: dict[str, Any], key: Ed25519PrivateKey) -> bytes:
    """The record; Ed25519 draws nothing, so the same event and key always give the same bytes."""
    event = {**event, "signedby": key.public_key().public_bytes_raw().hex()}
    return _canonical({**event, "signature": key.sign(_canonical(event)).hex()})


def checkpoint(data: bytes) -> Checkpoint:
    """The record `data`, its signature checked against the key that it names. Raises MalformedError."""
    try:
        event = json.loads(data)
        if _canonical(event) != data:
            raise MalformedError("not the canonical form")
        given = [event["data"]["journal"]] if "journal" in event["data"] else event["data"].get("journals", [])
        heads = msgspec.convert(given, tuple[Head, ...])
        public = bytes.fromhex(event["signedby"]) if "signedby" in event else None
        if public is not None:
            signature = bytes.fromhex(event.pop("signature"))
            Ed25519PublicKey.from_public_bytes(public).verify(signature, _canonical(event))
        return Checkpoint(id=str(event["id"]), heads=heads, signed_by=public)
    except InvalidSignature as error:
        raise MalformedError("its signature is not over these bytes") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise MalformedError(f"no announcement of fedlog ({type(error).__name__}: {error})") from error


def cloud_event_id(published: ModelPublished) -> str:
    """task/version."""
    return f"{published.task}/{published.version}"


def _canonical(event: Any) -> bytes:
    return json.dumps(event, separators=(",", ":"), sort_keys=True).encode()


def _moment(time_ms: int) -> str:
    moment = datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds")
    return moment.replace("+00:00", "Z")
