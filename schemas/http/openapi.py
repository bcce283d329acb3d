"""The protocol as OpenAPI 3.1, for whoever makes a client from a description; `docs/device-protocol.md` explains it.

A row an operation. A test holds the rows against the routes that a gateway has, and against that page.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from schemas.http.device_protocol import (
    APPENDED,
    BODY_TYPE,
    CODEC,
    LEASE,
    PARTIAL_TYPE,
    RECORD_TYPE,
    REPR_DIGEST,
    RETRY,
    UPLOAD_COMPLETE,
    UPLOAD_LENGTH,
    UPLOAD_LIMIT,
    UPLOAD_OFFSET,
    WAIT_S_MAX,
)

VERSION = "1.0.0"
JSON, PROBLEM = "application/json", "application/problem+json"
# What a gateway can do beyond the least; a device passes over what it does not know.
CAPABILITIES = ("enrolment", "long-poll", "model-ranges", "production", "resumable-upload", "signed-uploads")

# Said in more than one place.
RECORD, TAKEN = "The record, as it was signed.", "It stands in the log; ask at Location."
STATE = f"How much has come: {UPLOAD_OFFSET}, {UPLOAD_LENGTH}, {UPLOAD_COMPLETE}."
ADDRESS = "The address of the body in the log."


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path. `sends`: the type of its body; `headers`: those that it needs; `tells`: by status.

    `asks`: what its query may say.
    """

    method: str
    path: str
    name: str
    summary: str
    sends: str = ""
    headers: tuple[str, ...] = ()
    asks: tuple[str, ...] = ()
    waits: bool = False
    tells: Mapping[int, tuple[str, str]]


# A lease says whose an upload is, and the signature that its device has sent this very request.
UPLOAD = (LEASE, "Signature", "Signature-Input")
OPERATIONS = (
    Operation(
        method="get",
        path="/v1/deployment",
        name="tellDeployment",
        summary="The record that founded the deployment",
        tells={200: (RECORD, RECORD_TYPE)},
    ),
    Operation(
        method="get",
        path="/v1/capabilities",
        name="tellCapabilities",
        summary="What this gateway can do",
        tells={200: ("Flags, and the longest wait.", JSON)},
    ),
    Operation(
        method="get",
        path="/v1/openapi.json",
        name="tellProtocol",
        summary="This description",
        tells={200: ("OpenAPI 3.1.", JSON)},
    ),
    Operation(
        method="get",
        path="/v1/tasks/{task}",
        name="tellTask",
        summary="The record in which the operator created a task",
        tells={200: (RECORD, RECORD_TYPE)},
    ),
    Operation(
        method="get",
        path="/v1/tasks/{task}/production",
        name="tellProduction",
        summary="What is in production of a task, and with device and cohort which version that device gets",
        asks=("device", "cohort"),
        tells={200: ("What is promoted and on trial, with the signed records.", JSON), 304: ("You have it.", "")},
    ),
    Operation(
        method="get",
        path="/v1/models/{sha256}",
        name="fetchModel",
        summary="A model as it is stored, whole or one range of it",
        tells={200: ("All bytes.", BODY_TYPE), 206: ("A range.", BODY_TYPE), 304: ("You have it.", "")},
    ),
    Operation(
        method="post",
        path="/v1/enrolments",
        name="enrol",
        summary="Be enrolled with a token, or stay enrolled without",
        sends=RECORD_TYPE,
        waits=True,
        tells={200: ("The registrar's answer.", RECORD_TYPE), 202: (TAKEN, "")},
    ),
    Operation(
        method="get",
        path="/v1/enrolments/{digest}",
        name="hearEnrolment",
        summary="What the registrar has answered",
        waits=True,
        tells={200: ("The registrar's answer.", RECORD_TYPE), 202: ("Not yet.", "")},
    ),
    Operation(
        method="post",
        path="/v1/check-ins",
        name="checkIn",
        summary="Offer to train, or give a lease up",
        sends=RECORD_TYPE,
        waits=True,
        tells={200: ("The selector's answer.", RECORD_TYPE), 202: (TAKEN, "")},
    ),
    Operation(
        method="get",
        path="/v1/check-ins/{digest}",
        name="hearCheckIn",
        summary="What the selector has answered",
        waits=True,
        tells={200: ("The selector's answer.", RECORD_TYPE), 202: ("Not yet.", "")},
    ),
    Operation(
        method="post",
        path="/v1/updates",
        name="submit",
        summary="Hand an update in",
        sends=RECORD_TYPE,
        headers=(LEASE,),
        waits=True,
        tells={200: ("The outcome.", RECORD_TYPE), 202: (TAKEN, "")},
    ),
    Operation(
        method="get",
        path="/v1/updates/{lease}",
        name="hearOutcome",
        summary="What became of an update",
        headers=(LEASE,),
        waits=True,
        tells={200: ("The outcome.", RECORD_TYPE), 202: ("Not yet.", "")},
    ),
    Operation(
        method="post",
        path="/v1/uploads",
        name="beginUpload",
        summary="Begin an upload, or bring all of it",
        sends=BODY_TYPE,
        headers=(*UPLOAD, REPR_DIGEST, UPLOAD_LENGTH, UPLOAD_COMPLETE),
        tells={200: (ADDRESS, JSON), 201: (STATE, "")},
    ),
    # The draft for resumable uploads asks for it, so that a client that knows nothing of us can find out.
    Operation(
        method="options",
        path="/v1/uploads",
        name="tellUploads",
        summary="Whether uploads can be gone on with",
        tells={204: ("They can: see Accept-Patch.", "")},
    ),
    Operation(
        method="head",
        path="/v1/uploads/{name}",
        name="tellUpload",
        summary="How much of an upload has come",
        headers=UPLOAD,
        tells={204: (STATE, "")},
    ),
    Operation(
        method="patch",
        path="/v1/uploads/{name}",
        name="goOn",
        summary="More of an upload",
        sends=PARTIAL_TYPE,
        headers=(*UPLOAD, UPLOAD_OFFSET, UPLOAD_COMPLETE),
        tells={200: (ADDRESS, JSON), 204: (STATE, "")},
    ),
    Operation(
        method="get",
        path="/v1/uploads/{name}",
        name="fetchAddress",
        summary="Where the body stands",
        headers=UPLOAD,
        tells={200: (ADDRESS, JSON)},
    ),
    Operation(
        method="delete",
        path="/v1/uploads/{name}",
        name="endUpload",
        summary="Forget an upload; what is in the log stays",
        headers=UPLOAD,
        tells={204: ("Forgotten.", "")},
    ),
)
# What each tells beside; every answer has a window as well.
ADDED = {
    "tellDeployment": (APPENDED,),
    "tellTask": (APPENDED,),
    "fetchModel": (CODEC, "ETag"),
    "tellProduction": ("ETag",),
    "tellUploads": ("Accept-Patch",),
    "beginUpload": ("Location", UPLOAD_OFFSET, UPLOAD_LENGTH, UPLOAD_COMPLETE, UPLOAD_LIMIT),
    "goOn": (UPLOAD_OFFSET, UPLOAD_COMPLETE),
    "tellUpload": (UPLOAD_OFFSET, UPLOAD_LENGTH, UPLOAD_COMPLETE),
}


def describe_protocol() -> dict[str, Any]:
    """The whole document."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _describe(operation)
    about = {
        "title": "Devices of fedlog",
        "version": VERSION,
        "description": "Records are canonical msgpack, signed; docs/device-protocol.md tells what they hold.",
    }
    return {"openapi": "3.1.0", "info": about, "paths": paths, "components": {"schemas": {"Problem": _PROBLEM}}}


def _describe(operation: Operation) -> dict[str, Any]:
    told: dict[str, Any] = {"operationId": operation.name, "summary": operation.summary}
    # What stands in braces is a name that the device has: a digest, a lease, or what Location told.
    found = [part[1:-1] for part in operation.path.split("/") if part.startswith("{")]
    told["parameters"] = [
        *({"name": name, "in": "path", "required": True, "schema": _TEXT} for name in found),
        *({"name": name, "in": "query", "required": False, "schema": _TEXT} for name in operation.asks),
        *({"name": name, "in": "header", "required": True, "schema": _TEXT} for name in operation.headers),
    ]
    if operation.waits:
        how = f"wait=N: hold the request for N seconds, at most {WAIT_S_MAX} (RFC 7240)"
        told["parameters"].append({"name": "Prefer", "in": "header", "description": how, "schema": _TEXT})
    if operation.sends:
        told["requestBody"] = {"required": True, "content": {operation.sends: {}}}
    # When to ask again is told with every answer, so that nobody has to guess.
    added = {name: {"schema": _TEXT} for name in (RETRY, *ADDED.get(operation.name, ()))}
    told["responses"] = {
        str(status): {"description": text, "headers": added, **({"content": {kind: {}}} if kind else {})}
        for status, (text, kind) in operation.tells.items()
    }
    # Its codes are in the page: a list here would be one more to forget.
    problem = {"schema": {"$ref": "#/components/schemas/Problem"}}
    told["responses"]["default"] = {"description": "Why not, and when to ask again.", "content": {PROBLEM: problem}}
    return told


_TEXT = {"type": "string"}
# RFC 9457, and in it the window.
_NUMBER = {"type": "integer", "minimum": 0}
_PROBLEM = {
    "type": "object",
    "required": ["type", "status", "code", "title", "detail", "retry"],
    "properties": {
        **dict.fromkeys(("type", "code", "title", "detail"), _TEXT),
        "status": _NUMBER,
        "retry": {
            "type": "object",
            "required": ["min_ms", "max_ms"],
            "properties": {"min_ms": _NUMBER, "max_ms": _NUMBER},
        },
    },
}
