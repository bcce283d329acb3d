"""The gateway as a whole, over a log in memory and its own server: what it takes, tells and refuses."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.canonical import decode
from schemas.certificates import parse_certified
from schemas.events import Declined, Outcome
from schemas.http.device_protocol import RETRY, parse_window, read_address, write_digest
from streams.log import LogUnavailable
from tests.worlds.builders import device_id, role_key
from tests.worlds.device_world import TASK, large
from tests.worlds.gateway.asking import Behind, carrying, opened, wait_until

DATA = bytes(range(256)) * 400
WHOLE = {"Upload-Complete": "?1", "Repr-Digest": write_digest(hashlib.sha256(DATA).digest())}


@pytest.fixture
def behind(tmp_path: Path) -> Iterator[Behind]:
    """A gateway before a world whose updates travel in their records."""
    with opened(tmp_path) as found:
        yield found


@pytest.fixture
def behind_large(tmp_path: Path) -> Iterator[Behind]:
    """The same where updates have bodies."""
    with opened(tmp_path, large()) as found:
        yield found


def test_a_checkin_is_answered_in_its_own_request(behind: Behind) -> None:
    """Guarantee: whoever checks in and waits gets the selector's answer, byte for byte as it was signed."""
    message = behind.checkin()
    told = []
    asking = threading.Thread(
        target=lambda: told.append(behind.ask("POST", "/v1/check-ins", message, Prefer="wait=10"))
    )
    asking.start()
    wait_until(lambda: behind.world.records("checkins"))
    assert [record.value for record in behind.world.records("checkins")] == [message]
    behind.world.note_checkin(message)
    behind.world.say(said := behind.world.decline("no_slot", 1_000, device=behind.phone.device))
    asking.join()
    assert told[0].status == 200
    answer = parse_certified(told[0].data)
    assert decode(answer.payload, Declined) == said
    assert role_key("aggregator").trust().vouches(answer, "selector", at_ms=0)
    assert behind.ask("GET", f"/v1/check-ins/{hashlib.sha256(message).hexdigest()}").data == told[0].data


def test_without_an_answer_a_checkin_is_taken_and_told_where_to_ask(behind: Behind) -> None:
    """Guarantee: 202 only for what is in the log, with where to ask for the answer and when."""
    message = behind.checkin()
    told = behind.ask("POST", "/v1/check-ins", message)
    assert (told.status, told.data) == (202, b"")
    assert told.headers["location"] == f"/v1/check-ins/{hashlib.sha256(message).hexdigest()}"
    assert parse_window(told.headers[RETRY.lower()]) is not None
    assert len(behind.world.records("checkins")) == 1
    assert behind.ask("GET", told.headers["location"]).status == 202


def test_what_no_device_has_signed_is_not_appended(behind: Behind) -> None:
    """Guarantee: junk, another device's name and another deployment's words cost the log nothing."""
    message = behind.checkin()
    spoilt = message[:-1] + bytes([message[-1] ^ 1])
    assert behind.ask("POST", "/v1/check-ins", spoilt).problem["code"] == "signature_invalid"
    assert behind.ask("POST", "/v1/check-ins", b"junk").problem["code"] == "request_unreadable"
    stolen = behind.checkin(device=device_id("another"))
    assert behind.ask("POST", "/v1/check-ins", stolen).status == 403
    assert behind.ask("POST", "/v1/check-ins", behind.checkin(task="nobody")).problem["code"] == "unknown_task"
    assert behind.ask("POST", "/v1/check-ins", bytes(5_000)).status == 413
    assert behind.world.records("checkins") == []


def test_an_update_has_its_outcome_in_its_own_request(behind: Behind) -> None:
    """Guarantee: an update stands in the log before it is taken, and a repeat gets the first outcome, not a place."""
    sealed = behind.lease()
    message = behind.update(sealed)
    assert behind.ask("POST", "/v1/updates", message, carrying(sealed)).status == 202
    assert [record.value for record in behind.world.records("updates")] == [message]
    said = behind.settle(message, sealed)
    told = behind.ask("GET", f"/v1/updates/{said.update}", b"", carrying(sealed, Prefer="wait=10"))
    assert decode(parse_certified(told.data).payload, Outcome) == said
    # Its id says nothing: whoever counts leases would learn who took part.
    assert behind.ask("GET", f"/v1/updates/{said.update}").problem["code"] == "lease_missing"
    other = behind.ask("GET", f"/v1/updates/{said.update}", b"", carrying(behind.lease(2)))
    assert other.problem["code"] == "lease_differs"
    again = behind.ask("POST", "/v1/updates", message, carrying(sealed))
    assert (again.status, again.data) == (200, told.data)
    assert len(behind.world.records("updates")) == 1


def test_a_body_is_stored_and_its_address_told(behind_large: Behind) -> None:
    """Guarantee: what an upload answers is where the body stands, with its digest."""
    behind, sealed = behind_large, behind_large.lease()
    told = behind.ask("POST", "/v1/uploads", DATA, carrying(sealed, **WHOLE))
    assert told.status == 200, told.data
    address = read_address(told.data)
    assert (address.sha256, address.size) == (hashlib.sha256(DATA).digest(), len(DATA))
    assert b"".join(record.value or b"" for record in behind.world.records("bodies")) == DATA
    message = behind.update(sealed, address)
    assert behind.ask("POST", "/v1/updates", message, carrying(sealed)).status == 202
    assert [update.body for update in behind.world.submitted()] == [address]


def test_an_upload_goes_on_where_it_was(behind_large: Behind) -> None:
    """Guarantee: an empty POST creates, HEAD tells what has come, PATCH goes on; another offset is a conflict."""
    behind, sealed = behind_large, behind_large.lease()
    begun = carrying(sealed, **WHOLE) | {"Upload-Complete": "?0", "Upload-Length": str(len(DATA))}
    created = behind.ask("POST", "/v1/uploads", b"", begun)
    assert (created.status, created.headers["upload-offset"]) == (201, "0")
    place = created.headers["location"]
    partial = carrying(sealed, Content_Type="application/partial-upload", Upload_Complete="?0")
    cut = 60_000
    assert behind.ask("PATCH", place, DATA[:cut], partial | {"Upload-Offset": "0"}).status == 204
    told = behind.ask("HEAD", place, b"", carrying(sealed))
    assert (told.status, told.headers["upload-offset"], told.headers["upload-complete"]) == (204, str(cut), "?0")
    elsewhere = behind.ask("PATCH", place, DATA[:10], partial | {"Upload-Offset": "10"})
    assert (elsewhere.status, elsewhere.problem["expected-offset"]) == (409, cut)
    # The answer to a creation may get lost: the same creation finds the same upload.
    again = behind.ask("POST", "/v1/uploads", b"", begun)
    assert (again.headers["location"], again.headers["upload-offset"]) == (place, str(cut))
    last = partial | {"Upload-Offset": str(cut), "Upload-Complete": "?1"}
    done = behind.ask("PATCH", place, DATA[cut:], last)
    assert (done.status, done.headers["upload-complete"]) == (200, "?1")
    assert behind.ask("GET", place, b"", carrying(sealed)).data == done.data
    assert len(behind.world.records("bodies")) == 1


def test_damaged_bytes_are_not_appended(behind_large: Behind) -> None:
    """Guarantee: Repr-Digest is checked over the whole body before anything stands in the log."""
    sealed = behind_large.lease()
    told = behind_large.ask("POST", "/v1/uploads", DATA[:-1] + b"!", carrying(sealed, **WHOLE))
    assert told.problem["code"] == "digest_differs"
    assert behind_large.world.records("bodies") == []


def test_a_model_is_fetched_by_its_digest(behind: Behind) -> None:
    """Guarantee: the bytes as stored, whole or a range; whoever has them is told so, and may keep them for ever."""
    ref = behind.world.created.model
    path = f"/v1/models/{ref.sha256.hex()}"
    told = behind.ask("GET", path)
    assert hashlib.sha256(told.data).digest() == ref.sha256
    assert (told.headers["fedlog-codec"], "immutable" in told.headers["cache-control"]) == ("float32", True)
    assert behind.ask("GET", path, If_None_Match=told.headers["etag"]).status == 304
    part = behind.ask("GET", path, Range="bytes=3-9", If_Range=told.headers["etag"])
    assert (part.status, part.data) == (206, told.data[3:10])
    assert behind.ask("GET", f"/v1/models/{'0' * 64}").status == 404


def test_readers_get_what_the_operator_signed(behind: Behind) -> None:
    """Guarantee: a task is told as its record, so that nobody has to believe the gateway."""
    told = behind.ask("GET", f"/v1/tasks/{TASK}")
    [record] = [each for each in behind.world.records("tasks") if each.value == told.data]
    assert told.headers["fedlog-appended"] == str(record.time_ms)
    assert behind.ask("GET", "/v1/tasks/nobody").status == 404
    assert behind.ask("GET", "/healthz").status == behind.ask("GET", "/readyz").status == 200


def test_nothing_is_taken_while_kafka_is_away(behind: Behind, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guarantee: 2xx only after an acknowledgement: without one 503 with a window, and later everything goes on."""

    def refuse(drafts: object) -> list[int]:
        raise LogUnavailable("no broker")

    with monkeypatch.context() as away:
        away.setattr(behind.world.log, "append", refuse)
        first = behind.ask("POST", "/v1/check-ins", behind.checkin())
        assert (first.status, first.problem["code"]) == (503, "log_away")
        assert int(first.headers["retry-after"]) >= 1
        # From here on the breaker is open: no body is read, and the log is not asked.
        assert behind.ask("POST", "/v1/check-ins", behind.checkin(sent_ms=2)).problem["code"] == "log_away"
        assert behind.ask("GET", "/readyz").status == 503
    wait_until(lambda: behind.ask("POST", "/v1/check-ins", behind.checkin(sent_ms=3)).status == 202)
    assert len(behind.world.records("checkins")) == 1
    assert behind.ask("GET", "/readyz").status == 200
