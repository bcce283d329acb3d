"""The topic `published` as AsyncAPI 3, for whoever makes a subscriber from a description; docs/registry.md explains it.

Generated from the forms that the reader of announcements itself uses. `docs/asyncapi.json` is a copy, which a test
holds against this, and `make asyncapi` validates by AsyncAPI's own parser.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from schemas.announcements.forms import KINDS, Kind
from schemas.published import EVENT_TYPE
from schemas.topics import PUBLISHED

VERSION = "1.0.0"
_TEXT = {"type": "string"}
_HEX = {"type": "string", "pattern": "^([0-9a-f]{2})+$"}
_ABOUT = (
    "What federated training has made public: versions of models, where they may be used, and where data have moved. "
    "Each record is a CloudEvent in JSON, in its canonical form (keys sorted, no spaces), with an Ed25519 signature "
    "over the record without `signature`. Believe one where the operator has certified `signedby` for the role that "
    "the message names; announcements of one journal never go back in `data.journal.seq`. Pass over types that you do "
    "not know."
)
# Of the attributes that people do not know from CloudEvents itself.
_MEANING = {
    "source": "Which task of fedlog.",
    "subject": "Name of the task.",
    "time": "When it was decided.",
    "signedby": "The Ed25519 public key that signed it, in hex.",
    "certificate": "The operator's word for that key, in hex: a signed Certificate/1 in MessagePack.",
    "signature": "Ed25519 over the record without this field, in hex.",
}


def describe_topic() -> dict[str, Any]:
    """The whole document."""
    kinds = [*KINDS.values()]
    # From what the reader decodes into: a second description would be another one some day.
    _, schemas = msgspec.json.schema_components(
        [kind.data for kind in kinds], ref_template="#/components/schemas/{name}"
    )
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Announcements of fedlog", "version": VERSION, "description": _ABOUT},
        "defaultContentType": "application/cloudevents+json",
        "channels": {"published": _describe_channel(kinds)},
        "operations": {
            # In AsyncAPI 3 the application that is described sends; who reads the description receives.
            "announce": {
                "action": "send",
                "channel": {"$ref": "#/channels/published"},
                "summary": "fedlog says what is new; subscribers read.",
                "messages": [{"$ref": f"#/channels/published/messages/{kind.name}"} for kind in kinds],
            }
        },
        "components": {"messages": {kind.name: _describe_message(kind) for kind in kinds}, "schemas": schemas},
    }


def write_topic() -> str:
    """The document as a file has it."""
    text = json.dumps(describe_topic(), indent=2, ensure_ascii=False) + "\n"
    # Whoever reads JSON knows the end of a text by this sign; in Python it would let a last line feed pass.
    return text.replace(json.dumps(r"\Z")[1:], '$"')


def _describe_channel(kinds: list[Kind]) -> dict[str, Any]:
    return {
        "address": f"{{prefix}}.{PUBLISHED.name}",
        "description": "A topic of Kafka. All that belongs to one task is in one partition, in order; kept for ever.",
        "parameters": {"prefix": {"default": "fedlog", "description": "The deployment's --topic-prefix."}},
        "messages": {kind.name: {"$ref": f"#/components/messages/{kind.name}"} for kind in kinds},
    }


def _describe_message(kind: Kind) -> dict[str, Any]:
    about = (kind.data.__doc__ or "").split("\n\n")[0]
    # For compaction and for keys of other systems; the partition is chosen by the task's population.
    key = {**_TEXT, "description": "Name of the task."}
    return {
        "name": kind.type,
        "title": kind.data.__name__,
        "summary": about,
        "description": f"Signed by the role {kind.role}; decided in the journal `{kind.journal}`.",
        "contentType": "application/cloudevents+json",
        "bindings": {"kafka": {"key": key, "bindingVersion": "0.5.0"}},
        "payload": {
            "type": "object",
            "required": ["specversion", "id", "source", "type", "subject", "time", "data", "signedby", "signature"],
            "properties": {
                "specversion": {"const": "1.0"},
                "id": {**_TEXT, "description": _describe_id(kind)},
                "type": {"const": kind.type},
                **{name: {**_TEXT, "description": _MEANING[name]} for name in ("source", "subject")},
                "time": {**_TEXT, "format": "date-time", "description": _MEANING["time"]},
                "datacontenttype": {"const": "application/json"},
                "data": {"$ref": f"#/components/schemas/{kind.data.__name__}"},
                **{name: {**_HEX, "description": _MEANING[name]} for name in ("signedby", "certificate", "signature")},
            },
        },
    }


def _describe_id(kind: Kind) -> str:
    is_version = kind.type == EVENT_TYPE
    return f"{'task/version' if is_version else 'task/version/action/seq'}: unique in the log."
