"""Spans reach a collector as OTLP in JSON; what it refuses, and that there is none, is told."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from ops.history.tracing.otlp import BATCH, Collector, CollectorUnavailable, CollectorUnfit, SpansRefused, encode
from ops.history.tracing.spans import Span

SPAN = Span(
    trace="0af7651916cd43dd8448eb211c80319c",
    id="b7ad6b7169203331",
    name="round",
    start_ms=1_544_712_660_300,
    end_ms=1_544_712_661_300,
    attributes={"fedlog.task": "a", "fedlog.round": 3, "fedlog.epsilon": 0.5},
    links=(("f" * 32, "e" * 16),),
    error="withheld",
)


class CollectorHere(HTTPServer):
    """A collector in this process: keeps what comes, and answers what a test says."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.taken: list[tuple[str, str, Any]] = []
        self.status, self.answer = 200, b"{}"

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: CollectorHere

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.taken.append((self.path, self.headers["Content-Type"], body))
        self.send_response(self.server.status)
        self.end_headers()
        self.wfile.write(self.server.answer)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[CollectorHere]:
    """One that listens."""
    with CollectorHere() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_the_encoding_is_that_of_the_protocol() -> None:
    """Ids in hexadecimal and times as text, as in the example of opentelemetry-proto (examples/trace.json)."""
    [resource] = encode([SPAN])["resourceSpans"]
    assert resource["resource"]["attributes"] == [{"key": "service.name", "value": {"stringValue": "fedlog"}}]
    assert resource["scopeSpans"][0]["spans"] == [
        {
            "traceId": "0af7651916cd43dd8448eb211c80319c",
            "spanId": "b7ad6b7169203331",
            "name": "round",
            "kind": 1,
            "startTimeUnixNano": "1544712660300000000",
            "endTimeUnixNano": "1544712661300000000",
            "attributes": [
                {"key": "fedlog.task", "value": {"stringValue": "a"}},
                {"key": "fedlog.round", "value": {"intValue": "3"}},
                {"key": "fedlog.epsilon", "value": {"doubleValue": 0.5}},
            ],
            "status": {"code": 2, "message": "withheld"},
            "links": [{"traceId": "f" * 32, "spanId": "e" * 16}],
        }
    ]


def test_spans_reach_a_collector_in_batches(collector: CollectorHere) -> None:
    """At the path of the protocol, all of them, and none twice."""
    assert Collector(collector.address).send([SPAN] * (BATCH + 1)) == BATCH + 1
    assert [(path, kind) for path, kind, _ in collector.taken] == [("/v1/traces", "application/json")] * 2
    sizes = [len(body["resourceSpans"][0]["scopeSpans"][0]["spans"]) for _, _, body in collector.taken]
    assert sizes == [BATCH, 1]


@pytest.mark.parametrize(
    ("status", "answer", "said"),
    [
        (404, b"", "answers 404"),
        (200, b'{"partialSuccess": {"rejectedSpans": "2", "errorMessage": "too old"}}', "all but 2"),
    ],
)
def test_what_a_collector_refuses_is_told(collector: CollectorHere, status: int, answer: bytes, said: str) -> None:
    """Another server at the address, and a collector that takes a part."""
    collector.status, collector.answer = status, answer
    with pytest.raises(SpansRefused, match=said):
        Collector(collector.address).send([SPAN])


def test_an_answer_that_is_none_of_the_protocol_is_taken_for_yes(collector: CollectorHere) -> None:
    """A proxy in between may answer 200 with a page."""
    collector.answer = b"<html>"
    assert Collector(collector.address).send([SPAN]) == 1


def test_no_collector_and_no_address_are_told(collector: CollectorHere) -> None:
    """One that is away can be waited for, an address that is none cannot."""
    address = collector.address
    collector.shutdown()
    collector.server_close()
    with pytest.raises(CollectorUnavailable, match="No collector answers"):
        Collector(address).send([SPAN])
    with pytest.raises(CollectorUnfit, match="no address"):
        Collector("localhost:4318")
