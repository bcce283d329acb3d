"""The topic's description for programs is what is written and read, and the copy in docs is the code's."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from schemas.announcements.asyncapi import describe_topic, write_topic
from schemas.announcements.forms import KINDS
from schemas.published import DRIFT_TYPES, EVENT_TYPE, STEP_TYPES
from tests.root import ROOT
from tests.worlds.published.announcing import announce_drift, announce_rollout, announce_version

DOCUMENT = describe_topic()


def find_faults(kind: str, record: dict[str, Any]) -> list[str]:
    """What the description of a kind of message says against a record."""
    payload = DOCUMENT["components"]["messages"][kind]["payload"]
    schema = {**payload, "components": DOCUMENT["components"]}
    return [error.message for error in Draft202012Validator(schema).iter_errors(record)]


def test_the_copy_in_docs_is_the_codes() -> None:
    """Guarantee: what people download says what the code does; `make asyncapi` writes it anew."""
    assert (ROOT / "docs" / "asyncapi.json").read_text() == write_topic()


def test_every_kind_is_described() -> None:
    """Guarantee: a message a kind, named by its CloudEvents type."""
    assert {EVENT_TYPE, *STEP_TYPES, *DRIFT_TYPES} == {*KINDS}
    assert [message["name"] for message in DOCUMENT["components"]["messages"].values()] == [*KINDS]


@pytest.mark.parametrize(
    ("kind", "record"),
    [
        ("published", announce_version(0)),
        ("published", announce_version(3)),
        *((kind, announce_rollout(kind, 4)) for kind in ("canary", "promoted", "rolledback", "halted")),
        ("promoted", announce_rollout("promoted", 0, previous=None)),
        ("rolledback", announce_rollout("rolledback", 1, to=None)),
        ("halted", announce_rollout("halted", None)),
        *((kind, announce_drift(kind)) for kind in ("driftfound", "driftended")),
    ],
)
def test_what_is_written_fits_the_description(kind: str, record: bytes) -> None:
    """Guarantee: a client that validates by the description refuses nothing that an actor writes."""
    assert find_faults(kind, json.loads(record)) == []


def test_what_does_not_fit_is_found() -> None:
    """Guarantee: the description asks for something: a version, a digest, a signature."""
    record = json.loads(announce_rollout("promoted", 4))
    for change in ({"signature": None}, {"type": "other"}, {"data": {**record["data"], "version": "four"}}):
        assert find_faults("promoted", {**record, **change})
