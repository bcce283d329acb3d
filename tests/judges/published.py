"""The part of the law check that reads `published`: the public contract follows from the journal (law 5)."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

from schemas.events import ModelPublished
from schemas.signing import Signed, is_signed_by
from schemas.topics import ROUNDS
from streams.log import Record
from tests.judges.logbook import Logbook, differences
from tests.judges.releasing.announcements import step_faults
from tests.judges.releasing.drift import drift_announcement_faults


def announcement_faults(book: Logbook, *, settled: bool) -> Iterator[str]:
    """`published` holds one CloudEvent for each version, in the journal's order; other types are not its versions."""
    signed = [event for record in book.published if (event := _read_signed(record)) is not None]
    announced = [event for event in signed if event.get("type") == "io.fedlog.model.published.v1"]
    drifts = [event for event in signed if str(event.get("type")).startswith("io.fedlog.drift.")]
    yield from drift_announcement_faults(book, drifts, settled=settled)
    rest = [event for event in signed if event not in announced and event not in drifts]
    yield from step_faults(book, rest, settled=settled)
    versions = book.rounds.events(ModelPublished)
    if not settled:
        versions = versions[: max(len(announced), 0)]
    expected = [(f"{event.task}/{event.version}", event.model.sha256.hex(), _format_root(event)) for event in versions]
    said = [(event["id"], event["data"]["model"]["sha256"], event["data"].get("members_root")) for event in announced]
    yield from differences("published", expected, said)
    heads = _heads(book)
    for event in announced:
        if event["specversion"] != "1.0" or not {"source", "type", "subject", "time"} <= event.keys():
            yield f"published: {event['id']} is no CloudEvent"
        elif (head := event["data"].get("journal", {})) != heads.get(event["id"]):
            yield f"published: {event['id']} carries the head {head}, the journal has {heads.get(event['id'])}"


def _format_root(published: ModelPublished) -> str | None:
    return None if published.members_root is None else published.members_root.hex()


def _heads(book: Logbook) -> dict[str, dict[str, Any]]:
    """What each version's announcement must say of the batch that published it."""
    place = {"topic": ROUNDS.name, "partition": book.published[0].partition if book.published else 0}
    return {
        f"{said.task}/{said.version}": {**place, "seq": batch.seq, "head": book.rounds.stand(offset + 1).head.hex()}
        for offset, batch in book.rounds.batches
        for decision in batch.decisions
        for said in decision.events
        if isinstance(said, ModelPublished)
    }


def _read_signed(record: Record) -> dict[str, Any] | None:
    """An announcement; None for what whoever may write there has put beside them, and signed by nobody."""
    with contextlib.suppress(ValueError, TypeError, AttributeError, RecursionError):
        event = json.loads(record.value or b"null")
        return event if isinstance(event, dict) and _is_signed(event) else None
    return None


def _is_signed(event: dict[str, Any]) -> bool:
    """Everything in it, in canonical form, is under its own signature."""
    rest = {name: value for name, value in event.items() if name != "signature"}
    payload = json.dumps(rest, separators=(",", ":"), sort_keys=True).encode()
    signature = bytes.fromhex(event.get("signature", ""))
    message = Signed(payload, signature)
    # Digits in upper case are another spelling of the same signature, which the writer never has.
    return event.get("signature") == signature.hex() and is_signed_by(message, bytes.fromhex(event.get("signedby", "")))
