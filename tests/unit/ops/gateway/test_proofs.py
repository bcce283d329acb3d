"""Requests that are not signed by the lease's device, now and once, change nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from client_agent.links import sending
from client_agent.links.http import HttpLink
from client_agent.links.requests import GatewayOptions
from schemas.http.device_protocol import write_digest
from schemas.http.signing import sign_request
from tests.unit.ops.gateway.test_app import DATA, WHOLE
from tests.worlds.builders import KEY
from tests.worlds.device_world import large
from tests.worlds.gateway.asking import Behind, body_of, carrying, opened


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    """A gateway before a world whose updates have bodies."""
    with opened(tmp_path_factory.mktemp("gateway"), large()) as found:
        yield found


def test_a_captured_request_is_refused(behind: Behind) -> None:
    """Guarantee: the same request a second time is no request, whoever sends it."""
    headers = behind.sign("POST", "/v1/uploads", carrying(behind.lease(1), **WHOLE))
    assert behind.ask("POST", "/v1/uploads", DATA, headers).status == 200
    again = behind.ask("POST", "/v1/uploads", DATA, headers)
    assert (again.status, again.problem["code"]) == (401, "replayed")


@pytest.mark.parametrize("off_s", [-4_000, 4_000])
def test_a_clock_that_is_off_is_told(behind: Behind, off_s: int) -> None:
    """Guarantee: a device whose clock is wrong hears by how much, and what time it is."""
    headers = carrying(behind.lease(2), **WHOLE)
    signed = behind.sign("POST", "/v1/uploads", headers, at_s=time.time() + off_s)
    told = behind.ask("POST", "/v1/uploads", DATA, signed)
    assert (told.status, told.problem["code"]) == (401, "clock_differs")
    assert abs(told.problem["skew_s"] - off_s) < 60
    assert abs(told.problem["now_s"] - time.time()) < 60


def test_what_decides_is_signed(behind: Behind) -> None:
    """Guarantee: another digest, length, path, method, host or lease than the signed one is refused."""
    sealed = behind.lease(3)
    headers = behind.sign("POST", "/v1/uploads", carrying(sealed, **WHOLE, Upload_Length=str(len(DATA))))
    changes = (
        {"Repr-Digest": write_digest(bytes(32))},
        {"Upload-Length": str(len(DATA) + 1)},
        {"Upload-Complete": "?0"},
        {"Host": "gateway.example"},
        carrying(behind.lease(4)),
    )
    for change in changes:
        assert behind.ask("POST", "/v1/uploads", DATA, headers | change).problem["code"] == "signature_invalid"
    assert behind.ask("POST", "/v1/uploads?x=1", DATA, headers).status == 200


def test_nobody_signs_for_another(behind: Behind) -> None:
    """Guarantee: a lease that was overheard is of no use without the key of its device; nor is no signature."""
    headers = carrying(behind.lease(5), **WHOLE)
    stranger = Ed25519PrivateKey.generate()
    signed = sign_request("POST", f"{behind.url}/v1/uploads", headers=headers, key=stranger, at_s=time.time())
    assert behind.ask("POST", "/v1/uploads", DATA, signed).problem["code"] == "signature_invalid"
    unsigned = behind.ask("POST", "/v1/uploads", DATA, headers | {"Signature": ""})
    assert unsigned.problem["code"] == "signature_invalid"


def test_a_link_signs_by_the_gateway_s_clock(behind: Behind, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guarantee: a device whose clock is hours off uploads all the same, once it has been told."""
    sealed = behind.lease(6)
    monkeypatch.setattr(sending, "time", Ahead())
    link = HttpLink(GatewayOptions(url=behind.url), KEY.public_key, [behind.phone.device])
    try:
        link.store(body_of(behind, sealed, DATA))
        link.read_answers(10)
        assert len(link.collect_stored()) == 1
    finally:
        link.close()


class Ahead:
    """A clock that is three hours ahead."""

    def time(self) -> float:
        return time.time() + 10_800
