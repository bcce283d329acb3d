"""What draft-ietf-httpbis-resumable-upload asks of a server, requirement by requirement, against a real gateway.

Its sections are those of draft 15. A public suite there is (`rufh_conformity_test.py` of tomdesair/tus-java-server, for
draft 12); its requests carry no lease, signature or digest, so that a gateway refuses all of them. Two differences are
wanted: a body has a byte at least, and a completion that is repeated is answered once more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from schemas.http.device_protocol import write_digest
from tests.worlds.device_world import large
from tests.worlds.gateway.asking import Behind, Told, carrying, opened

DATA = bytes(range(100))
LENGTH_PROBLEM = "https://iana.org/assignments/http-problem-types#inconsistent-upload-length"
OFFSET_PROBLEM = "https://iana.org/assignments/http-problem-types#mismatching-upload-offset"


class Client:
    """Requests to the uploads of a gateway, each upload under a lease of its own."""

    def __init__(self, behind: Behind) -> None:
        self._behind, self._number, self.sealed = behind, 0, b""

    def create(self, data: bytes = b"", *, complete: str = "?0", length: int | None = len(DATA)) -> Told:
        """A creation under a new lease."""
        self._number += 1
        self.sealed = self._behind.lease(self._number)
        more = {} if length is None else {"Upload_Length": str(length)}
        digest = write_digest(hashlib.sha256(DATA).digest())
        return self.ask("POST", "/v1/uploads", data, Upload_Complete=complete, Repr_Digest=digest, **more)

    def begin(self, data: bytes = b"") -> str:
        """Where a new upload is, of which these bytes have come."""
        return self.create(data).headers["location"]

    def append(self, place: str, data: bytes, *, at: int, complete: str = "?0", **more: str) -> Told:
        """More of an upload."""
        named = {"Content_Type": "application/partial-upload", "Upload_Offset": str(at), "Upload_Complete": complete}
        return self.ask("PATCH", place, data, **{**named, **more})

    def ask(self, method: str, place: str, data: bytes = b"", **headers: str) -> Told:
        """Any request under the newest lease."""
        return self._behind.ask(method, place, data, carrying(self.sealed, **headers))


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A client of a gateway."""
    folder: Path = tmp_path_factory.mktemp("gateway")
    with opened(folder, large()) as behind:
        yield Client(behind)


def _state(told: Told) -> tuple[str | None, ...]:
    return tuple(told.headers.get(f"upload-{name}") for name in ("offset", "complete", "length", "limit"))


def _options(client: Client) -> None:
    told = client.ask("OPTIONS", "/v1/uploads")
    assert told.status in (200, 204)
    assert "application/partial-upload" in told.headers["accept-patch"]


def _too_large(client: Client) -> None:
    told = client.create(length=10**9)
    assert told.status == 413
    assert told.headers["upload-limit"].startswith("max-size=")


def _created_whole(client: Client) -> None:
    told = client.create(DATA, complete="?1")
    assert told.status == 200
    assert told.headers["upload-complete"] == "?1"


def _created_empty(client: Client) -> None:
    told = client.create()
    assert told.status == 201
    assert told.headers["location"]
    assert _state(told) == ("0", "?0", "100", "max-size=100")


def _created_in_part(client: Client) -> None:
    told = client.create(DATA[:32])
    assert told.status == 201
    assert told.headers["location"]
    assert _state(told) == ("32", "?0", "100", "max-size=100")


def _length_by_content(client: Client) -> None:
    told = client.create(DATA, complete="?1", length=None)
    assert told.status == 200
    assert told.headers["upload-length"] == "100"


def _lengths_differ(client: Client) -> None:
    told = client.create(DATA[:50], complete="?1")
    assert told.status == 400
    assert told.problem["type"] == LENGTH_PROBLEM


def _no_boolean(client: Client) -> None:
    assert client.create(DATA, complete="true").status == 400
    place = client.begin()
    assert client.append(place, DATA, at=0, complete="1").status == 400


def _no_integer(client: Client) -> None:
    place = client.begin()
    assert client.append(place, DATA[:5], at=0, Upload_Offset="abc").status in (400, 409)
    assert _state(client.ask("HEAD", place))[0] == "0"


def _told_by_head(client: Client) -> None:
    told = client.ask("HEAD", client.begin(DATA[:7]))
    assert told.status in (200, 204)
    assert _state(told) == ("7", "?0", "100", "max-size=100")
    assert told.headers["cache-control"] == "no-store"


def _told_by_head_when_complete(client: Client) -> None:
    place = client.begin(DATA[:7])
    assert client.append(place, DATA[7:], at=7, complete="?1").status == 200
    assert _state(client.ask("HEAD", place))[:3] == ("100", "?1", "100")


def _appended(client: Client) -> None:
    place = client.begin(DATA[:7])
    told = client.append(place, DATA[7:20], at=7)
    assert told.status == 204
    assert told.headers["upload-complete"] == "?0"
    assert _state(client.ask("HEAD", place))[0] == "20"
    # What was told can be used: nothing else has come in between.
    assert client.append(place, DATA[20:], at=20, complete="?1").status == 200


def _completed(client: Client) -> None:
    told = client.append(client.begin(), DATA, at=0, complete="?1")
    assert told.status == 200
    assert told.headers["upload-complete"] == "?1"


def _completed_without_content(client: Client) -> None:
    told = client.append(client.begin(DATA), b"", at=100, complete="?1")
    assert told.status == 200
    assert told.headers["upload-complete"] == "?1"


def _full_is_not_complete(client: Client) -> None:
    told = client.ask("HEAD", client.begin(DATA))
    assert _state(told)[:2] == ("100", "?0")


def _another_offset(client: Client) -> None:
    place = client.begin(DATA[:32])
    for at in (5, 33, 0):
        told = client.append(place, DATA[at : at + 5], at=at)
        assert told.status == 409
        assert told.headers["upload-offset"] == "32"
        assert told.problem["type"] == OFFSET_PROBLEM
    # It never decreases, and can be gone on with.
    assert _state(client.ask("HEAD", place))[0] == "32"
    assert client.append(place, DATA[32:], at=32, complete="?1").status == 200


def _another_type(client: Client) -> None:
    place = client.begin()
    assert 400 <= client.append(place, DATA[:5], at=0, Content_Type="text/plain").status < 500
    assert _state(client.ask("HEAD", place))[0] == "0"


def _more_after_completion(client: Client) -> None:
    place = client.begin()
    assert client.append(place, DATA, at=0, complete="?1").status == 200
    told = client.append(place, b"more", at=100)
    assert told.status == 400
    assert told.problem["type"] == LENGTH_PROBLEM
    assert _state(client.ask("HEAD", place))[:3] == ("100", "?1", "100")


def _more_than_announced(client: Client) -> None:
    told = client.append(client.begin(DATA[:90]), bytes(11), at=90)
    assert told.status == 413
    assert told.headers["upload-limit"] == "max-size=100"


def _less_than_announced(client: Client) -> None:
    place = client.begin(DATA[:90])
    told = client.append(place, DATA[90:95], at=90, complete="?1")
    assert told.status == 400
    assert told.problem["type"] == LENGTH_PROBLEM
    assert _state(client.ask("HEAD", place))[:2] == ("90", "?0")


def _cancelled(client: Client) -> None:
    place = client.begin(DATA[:32])
    assert client.ask("DELETE", place).status == 204
    assert client.ask("HEAD", place).status in (404, 410)
    assert client.append(place, DATA[32:], at=32, complete="?1").status in (404, 410)


def _never_redirected(client: Client) -> None:
    place = client.begin()
    for method in ("HEAD", "DELETE"):
        assert client.ask(method, f"{place}/").status not in (301, 302, 303)


REQUIREMENTS: dict[str, Callable[[Client], None]] = {
    "4.1.4 OPTIONS names the media type in Accept-Patch": _options,
    "4.1.4 a 413 for a limit names the limit": _too_large,
    "4.1.1 an offset that is no integer is none": _no_integer,
    "4.1.1 the offset never decreases": _another_offset,
    "4.1.2 a completeness that is no boolean is none": _no_boolean,
    "4.1.2 as many bytes as announced do not complete it": _full_is_not_complete,
    "4.1.3 the length may follow from the content": _length_by_content,
    "4.1.3 two lengths match": _lengths_differ,
    "4.2 a creation with everything is answered by its resource": _created_whole,
    "4.2 a creation without content has Location and limits": _created_empty,
    "4.2 a creation with a part has Location and limits": _created_in_part,
    "4.3 HEAD tells offset, completeness, length and limits": _told_by_head,
    "4.3 HEAD tells them of what is complete": _told_by_head_when_complete,
    "4.4 a part is acknowledged, and its offset can be used": _appended,
    "4.4 the last part is answered with its completeness": _completed,
    "4.4 nothing more is a last part too": _completed_without_content,
    "4.4 another offset is a conflict that names the right one": _another_offset,
    "4.4 another media type is not appended": _another_type,
    "4.4 what is complete is not changed": _more_after_completion,
    "4.4 the offset does not exceed the length": _more_than_announced,
    "4.4 a last part that is too short completes nothing": _less_than_announced,
    "4.5 what was cancelled is gone": _cancelled,
    "4.5 nobody is redirected": _never_redirected,
}


@pytest.mark.parametrize("requirement", REQUIREMENTS)
def test_a_gateway_keeps_the_draft(client: Client, requirement: str) -> None:
    """Guarantee: whoever speaks the draft for resumable uploads, and signs, can speak to a gateway."""
    REQUIREMENTS[requirement](client)
