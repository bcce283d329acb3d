"""A body on its way to a gateway that says anything at all: the device sends it so often, and then leaves it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from itertools import cycle
from unittest.mock import patch

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from client_agent.link import UpdateBody
from client_agent.links import errands, sending
from client_agent.links.errands import Errands
from client_agent.links.requests import WINDOW_MS_MIN, GatewayClient, GatewayOptions, Reply, Unreachable, draw_wait_s
from client_agent.links.sending import FAILURES_MAX, Refused, send_body
from schemas.canonical import MalformedError
from schemas.certificates import Trust
from schemas.http.device_protocol import APPENDED, RETRY, UPLOAD_COMPLETE, UPLOAD_OFFSET, Window

PIECE = 10
BODY = UpdateBody(
    device="phone",
    task="rings",
    update="0" * 32,
    sealed=b"sealed",
    shards=1,
    codec="float32",
    data=bytes(range(45)),
    key=Ed25519PrivateKey.from_private_bytes(bytes(32)),
)


class Liar(GatewayClient):
    """A gateway that goes through its answers again and again, and never grants an address."""

    def __init__(self, answers: list[Reply | Unreachable], *, requests_max: int = 500) -> None:
        super().__init__(GatewayOptions(url="https://gateway.example"))
        self._answers, self._requests_max = cycle(answers), requests_max
        self.requests = self.bytes = 0

    async def ask(
        self, method: str, path: str, *, data: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Reply:
        """The next answer."""
        self.resolve(path)
        self.requests, self.bytes = self.requests + 1, self.bytes + len(data)
        assert self.requests < self._requests_max, "it is asked without end"
        answer = next(self._answers)
        if isinstance(answer, Unreachable):
            raise answer
        return answer


offsets = st.integers(-5, 60).map(str) | st.just("many")
locations = st.sampled_from(
    ["/v1/uploads/a", "/v1/uploads/b", "http://10.0.0.1/x", "https://[", "https://other.example/y"]
)
headers = st.fixed_dictionaries(
    {UPLOAD_OFFSET: offsets, UPLOAD_COMPLETE: st.sampled_from(["?0", "?0", "?0", "?1"])},
    optional={"Location": locations},
)
skews = st.integers(-(2**40), 2**40).map(lambda now_s: json.dumps({"code": "clock_differs", "now_s": now_s}).encode())
replies = st.builds(Reply, st.sampled_from([200, 201, 204, 401, 404, 409, 403]), headers, skews | st.just(b""))
unreachable = st.builds(Unreachable, st.just("away"), st.just(Window(0, 0)), is_told=st.booleans())


async def _do_not_wait(*_: object) -> None:
    await asyncio.sleep(0)


@settings(max_examples=60)
@given(st.lists(replies | unreachable, min_size=1, max_size=8))
def test_no_gateway_has_a_body_sent_for_ever(answers: list[Reply | Unreachable]) -> None:
    """Guarantee: whatever a gateway answers, an upload ends, after a bounded number of requests and bytes."""
    liar = Liar(answers)
    with (
        patch.object(sending, "wait_within", _do_not_wait),
        patch.object(sending, "PIECE_BYTES", PIECE),
        pytest.raises((Refused, Unreachable, MalformedError, ValueError, KeyError)),
    ):
        asyncio.run(send_body(liar, BODY))
    # Each offset beyond all before is worth some tries, and there are no more of them than bytes.
    assert liar.bytes <= (len(BODY.data) + 2) * 2 * FAILURES_MAX * PIECE


def test_a_gateway_goes_back_and_forth_a_few_times() -> None:
    """Guarantee: bytes that a gateway forgets again and again are sent a few times, and not as often as it forgets."""
    there, back = ({UPLOAD_OFFSET: at, UPLOAD_COMPLETE: "?0", "Location": "/v1/uploads/a"} for at in ("10", "0"))
    liar = Liar([Reply(204, there, b""), Reply(204, back, b"")])
    with (
        patch.object(sending, "wait_within", _do_not_wait),
        patch.object(sending, "PIECE_BYTES", PIECE),
        pytest.raises(Unreachable),
    ):
        asyncio.run(send_body(liar, BODY))
    assert liar.requests <= 3 * FAILURES_MAX


@pytest.mark.parametrize("now_s", [0, 2**62])
def test_a_gateways_time_is_believed_once_and_within_reason(now_s: int) -> None:
    """Guarantee: a request is signed anew once by another clock, and no clock spoils the uploads after it."""
    told = Reply(401, {}, json.dumps({"code": "clock_differs", "now_s": now_s}).encode())
    liar = Liar([told])
    with pytest.raises(Refused):
        asyncio.run(send_body(liar, BODY))
    assert liar.requests <= 2
    assert abs(liar.skew_s) <= sending.SKEW_S_MAX


def test_who_is_told_to_ask_at_once_waits_all_the_same() -> None:
    """Guarantee: no window lets a device ask without a pause, for it has a battery."""
    assert min(draw_wait_s(Window(0, 0)) for _ in range(50)) * 1000 >= WINDOW_MS_MIN


def test_a_gateway_that_holds_no_request_is_asked_slowly() -> None:
    """Guarantee: "not yet" at once, for ever, is asked about once a window, and given up."""
    liar = Liar([Reply(202, {"Location": "/v1/updates/a", RETRY: "min=0, max=0"}, b"")])
    slept = list[float]()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    clock = iter(range(1_000))
    with patch.object(errands.asyncio, "sleep", sleep), patch.object(time, "monotonic", lambda: next(clock)):
        asyncio.run(Errands(liar, Trust(bytes(32))).exchange("v1/updates", b"", device="phone"))
    assert len([each for each in slept if each > 0]) >= liar.requests


@pytest.mark.parametrize("appended", ["9" * 5_000, "9" * 16, "-1", "", "1e3", "²"])
def test_a_time_that_is_none_makes_a_task_unknown(appended: str) -> None:
    """Guarantee: no number that a gateway gives for a record's time ends a device."""
    liar = Liar([Reply(200, {APPENDED: appended}, b"record")])
    assert asyncio.run(Errands(liar, Trust(bytes(32), bytes(16))).find_task("rings")) is None


@pytest.mark.parametrize(
    "location", ["http://10.0.0.1/v1/uploads/a", "http://gateway.example/a", "ftp://a", "https://["]
)
def test_no_location_leads_out_of_tls(location: str) -> None:
    """Guarantee: a gateway sends no device with its lease to an address that is reached in clear text."""
    with pytest.raises(Unreachable):
        GatewayClient(GatewayOptions(url="https://gateway.example")).resolve(location)


@pytest.mark.parametrize(
    ("base", "location"),
    [
        ("https://gateway.example", "/v1/uploads/a"),
        ("https://gateway.example", "https://two.gateway.example/v1/uploads/a"),
        ("http://127.0.0.1:8710", "/v1/uploads/a"),
        ("http://127.0.0.1:8710", "http://127.0.0.1:8711/v1/uploads/a"),
    ],
)
def test_an_upload_belongs_to_the_gateway_that_it_names(base: str, location: str) -> None:
    """Guarantee: another gateway of the same kind may be named."""
    assert GatewayClient(GatewayOptions(url=base)).resolve(location).endswith("/v1/uploads/a")
