"""What is refused by its headers alone: before a byte of a body is read, and with the window in which to come again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.events import TaskClosed
from schemas.http.device_protocol import LEASE, RETRY, parse_window, write_bytes, write_digest
from schemas.leases import sign_lease
from tests.places import home_of
from tests.worlds.builders import DEPLOYMENT, OperatorKey, lease, role_key, written
from tests.worlds.device_world import TASK, large
from tests.worlds.gateway.asking import Behind, carrying, opened, wait_until
from tests.worlds.gateway.raw import connected

# Never sent: whoever waits for it before the answer waits in vain.
PROMISED = "100000"


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    """A gateway before a world whose updates have bodies."""
    with opened(tmp_path_factory.mktemp("gateway"), large()) as found:
        yield found


def refused(behind: Behind, sealed: bytes | None, path: str = "/v1/uploads", **more: str) -> tuple[int, str]:
    """Status and code of the answer to a request whose body never comes."""
    headers = {"Content-Length": PROMISED, "Upload-Complete": "?1", "Repr-Digest": write_digest(bytes(32))}
    headers |= {} if sealed is None else {LEASE: write_bytes(sealed)}
    headers |= {name.replace("_", "-"): value for name, value in more.items()}
    if sealed is not None:
        headers = behind.sign("POST", path, headers)
    with connected(behind.url, timeout_s=60) as connection:
        connection.begin("POST", path, headers)
        told = connection.read_all()
    head, _, body = told.partition("\r\n\r\n")
    assert "connection: close" in head.lower(), head
    lines = dict(line.split(": ", 1) for line in head.lower().split("\r\n")[1:])
    assert parse_window(lines[RETRY.lower()]) is not None
    assert int(lines["retry-after"]) >= 0
    return int(head.split()[1]), json.loads(body)["code"]


@pytest.mark.parametrize("path", ["/v1/uploads", "/v1/updates"])
def test_a_lease_that_is_over_is_refused_before_the_body(behind: Behind, path: str) -> None:
    """Guarantee: whoever comes after the deadline uploads nothing to learn that."""
    assert refused(behind, behind.lease(2, deadline_ms=1_000), path) == (410, "lease_over")


def test_a_lease_of_a_stranger_is_refused_before_the_body(behind: Behind) -> None:
    """Guarantee: no lease, a spoilt one and one of another operator's selector open nothing."""
    sealed = behind.lease(3)
    assert refused(behind, None) == (403, "lease_missing")
    assert refused(behind, sealed[:60] + bytes([sealed[60] ^ 1]) + sealed[61:])[1] == "lease_invalid"
    stranger = role_key("selector", key=OperatorKey(bytes(range(1, 33))))
    foreign = sign_lease(lease(behind.phone.device, of=behind.world.created), stranger.signer)
    assert refused(behind, foreign) == (403, "lease_invalid")
    assert refused(behind, behind.lease(3, policy_sha256=bytes(32)))[1] == "unknown_task"


def test_a_size_that_cannot_be_is_refused_before_the_body(behind: Behind) -> None:
    """Guarantee: more bytes than an update of this task can have are refused by their number."""
    assert refused(behind, behind.lease(4), Upload_Length="999999999") == (413, "too_large")
    assert refused(behind, behind.lease(4), Content_Length="99999999") == (413, "too_large")
    assert refused(behind, behind.lease(4), "/v1/updates", Content_Length="99999999") == (413, "too_large")
    assert refused(behind, behind.lease(4), Upload_Length="0")[0] == 400


def test_a_round_that_is_over_is_refused_before_the_body(tmp_path: Path) -> None:
    """Guarantee: an update from a version too old to count is not uploaded, nor one of a task that is closed."""
    with opened(tmp_path, large()) as behind:
        sealed, created = behind.lease(), behind.world.created
        wait = len(created.weights)
        behind.announce(wait - 1)
        behind.announce(wait, key=OperatorKey(bytes(range(1, 33))))
        # What a stranger announces moves nothing; the version before the first that is too old still counts.
        assert behind.ask("POST", "/v1/uploads", b"x", carrying(sealed, **whole(b"x"))).status == 200
        behind.announce(wait)
        wait_until(lambda: behind.ask("POST", "/v1/updates", b"", carrying(sealed)).status == 410)
        assert refused(behind, behind.lease(5)) == (410, "round_over")
        closed = written(TaskClosed(task=TASK, deployment=DEPLOYMENT))
        behind.world.append("tasks", home_of(TASK), closed)
        wait_until(lambda: b"closed" in behind.ask("POST", "/v1/updates", b"", carrying(sealed)).data)
        assert refused(behind, behind.lease(6)) == (410, "closed")


def whole(data: bytes) -> dict[str, str]:
    """Headers of an upload in one request."""
    return {"Upload_Complete": "?1", "Repr_Digest": write_digest(hashlib.sha256(data).digest())}
