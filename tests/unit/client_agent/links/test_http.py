"""The link over HTTP, against a real gateway over a log in memory, and against a gateway that lies."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from client_agent.device import Device
from client_agent.link import LinkUnavailable, ModelMissing
from client_agent.links.http import HttpLink
from client_agent.links.requests import GatewayOptions, GatewayUnfit, draw_wait_s
from schemas.events import Outcome
from schemas.http.device_protocol import Window
from schemas.leases import read_lease
from tests.worlds.builders import KEY
from tests.worlds.device_world import TASK, large
from tests.worlds.gateway.asking import Behind, body_of, opened, wait_until


@contextmanager
def linked(behind: Behind, kept: list[bytes] | None = None) -> Iterator[HttpLink]:
    """A link of the phone to a gateway."""
    keep = [] if kept is None else kept
    devices = [behind.phone.device]
    link = HttpLink(
        GatewayOptions(url=behind.url), KEY.public_key, devices, keep=lambda _, message: keep.append(message)
    )
    try:
        yield link
    finally:
        link.close()


@pytest.fixture
def behind(tmp_path: Path) -> Iterator[Behind]:
    """A gateway before a world whose updates have bodies."""
    with opened(tmp_path, large()) as found:
        yield found


def test_a_device_trains_over_http(behind: Behind, tmp_path: Path) -> None:
    """Guarantee: the same device with this link checks in, trains, uploads, submits, and hears its outcome."""
    world, kept = behind.world, list[bytes]()
    with linked(behind, kept) as link:
        device = Device(link, world.setting(tmp_path / "phone"))
        device.wake(0)
        wait_until(lambda: world.records("checkins"))
        world.note_checkin(world.records("checkins")[0].value or b"")
        sealed = behind.lease()
        lease = read_lease(sealed)
        # The lease is as long as its policy allows, by this machine's clock.
        now_ms = lease.deadline_ms - world.policy.lease_ms
        world.say(world.grant(lease))
        [granted] = link.read_answers(10)
        device.receive(granted, now_ms)
        device.wake(now_ms)
        assert link.read_answers(10) == []
        [stored] = link.collect_stored()
        device.take_address(stored, now_ms)
        wait_until(world.submitted)
        [update] = world.submitted()
        assert update.body == stored.address
        world.say(said := world.outcome(lease, "admitted"))
        heard = link.read_answers(10)
        assert heard == [said]
        assert len(kept) == 1
        device.receive(heard[0], now_ms)
        assert device.counts.admitted == 1


def test_task_and_model_are_those_of_the_log(behind: Behind) -> None:
    """Guarantee: a task as the operator signed it, a model by its digest; what is not there is said so."""
    created = behind.world.created
    with linked(behind) as link:
        assert link.find_task(TASK) == created
        assert link.find_task("nobody") is None
        assert link.fetch_model(created, created.model, size=created.parameters, timeout_s=60).shape == (40_000,)


def test_a_body_keeps_its_address(behind: Behind) -> None:
    """Guarantee: a long body goes in pieces, and its address is that of its bytes in the log."""
    sealed = behind.lease()
    data = bytes(range(251)) * 600
    body = body_of(behind, sealed, data)
    with linked(behind) as link:
        link.store(body)
        # Said again before it is there, as a device does that got no answer.
        link.store(body)
        assert link.read_answers(10) == []
        [stored] = link.collect_stored()
    assert stored.address.size == len(data)
    assert b"".join(record.value or b"" for record in behind.world.records("bodies")) == data


class Liar(http.server.BaseHTTPRequestHandler):
    """A gateway that answers with what it was given."""

    answers: dict[str, bytes] = {}

    def do_GET(self) -> None:
        self.send_response(200)
        data = next((data for path, data in self.answers.items() if self.path.startswith(path)), b"")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Fedlog-Appended", "0")
        self.end_headers()
        self.wfile.write(data)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Nothing: what it says is the test's."""


@contextmanager
def lying(answers: dict[str, bytes]) -> Iterator[GatewayOptions]:
    """A gateway of a stranger."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Lies", (Liar,), {"answers": answers}))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield GatewayOptions(url=f"http://127.0.0.1:{server.server_address[1]}")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_gateway_is_not_believed(behind: Behind) -> None:
    """Guarantee: other bytes for a model, a stranger's task and a stranger's outcome are nothing to a device."""
    from actors.keys import OperatorKey
    from schemas.creations import sign_task_event
    from tests.worlds.builders import told

    created, phone = behind.world.created, behind.phone
    stranger = OperatorKey(bytes(range(1, 33)))
    said = Outcome(device=phone.device, task=TASK, update="0" * 32, record_sha256=bytes(32), outcome="admitted")
    forged = {
        "/v1/models": b"other bytes",
        "/v1/tasks": sign_task_event(created, stranger.signing),
        "/v1/check-ins": told(said, key=stranger),
    }
    with lying(forged) as options:
        link = HttpLink(options, KEY.public_key, [phone.device])
        try:
            assert link.find_task(TASK) is None
            with pytest.raises(ModelMissing):
                link.fetch_model(created, created.model, size=created.parameters, timeout_s=60)
            link.check_in(TASK, behind.checkin())
            assert link.read_answers(0.5) == []
        finally:
            link.close()


def test_a_gateway_that_is_not_there_is_an_error_of_the_link() -> None:
    """Guarantee: whatever a device asks, an absent gateway is LinkUnavailable, and it ends."""
    link = HttpLink(GatewayOptions(url="http://127.0.0.1:9"), KEY.public_key, ["phone"])
    try:
        with pytest.raises(LinkUnavailable):
            link.find_task(TASK)
    finally:
        link.close()


def test_a_gateway_elsewhere_is_reached_over_tls_alone() -> None:
    """Guarantee: no device sends its leases in clear text to another machine."""
    with pytest.raises(GatewayUnfit):
        GatewayOptions(url="http://gateway.example")
    assert GatewayOptions(url="https://gateway.example").pin == ""


def test_a_wait_lies_in_its_window() -> None:
    """Guarantee: a device comes neither before nor long after the window, and not when all others come."""
    waits = [draw_wait_s(Window(1_000, 3_000)) for _ in range(200)]
    assert 1 <= min(waits) < 1.5
    assert 2.5 < max(waits) <= 3
