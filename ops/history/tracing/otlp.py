"""Sends spans to a collector: OTLP over HTTP in its JSON encoding, which Tempo, Jaeger and every collector take."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any
from urllib.parse import urlsplit

from ops.history.tracing.spans import Span, Value
from schemas.errors import EXIT_NO, EXIT_UNAVAILABLE, EXIT_USAGE, FedlogError

PATH = "/v1/traces"
BATCH = 500
TIMEOUT_S = 30.0
_ERROR, _INTERNAL = 2, 1  # of the protocol's enumerations: a status, a kind of span


class CollectorUnfit(FedlogError):
    """The address of a collector cannot be used."""

    exit_code = EXIT_USAGE
    code = "collector_unfit"


class CollectorUnavailable(FedlogError):
    """No collector answers."""

    exit_code = EXIT_UNAVAILABLE
    code = "collector_unavailable"


class SpansRefused(FedlogError):
    """A collector does not take the spans."""

    exit_code = EXIT_NO
    code = "spans_refused"


class Collector:
    """One collector, by its address; `http://localhost:4318` is where most listen."""

    def __init__(self, address: str) -> None:
        """Raises CollectorUnfit."""
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise CollectorUnfit(f"{address!r} is no address of a collector: give one like http://localhost:4318.")
        self._url = address if parts.path.strip("/") else address.rstrip("/") + PATH

    def send(self, spans: Iterable[Span]) -> int:
        """Send them in batches; how many. Raises CollectorUnavailable, SpansRefused."""
        remaining, sent = iter(spans), 0
        while batch := list(islice(remaining, BATCH)):
            self._post(json.dumps(encode(batch)).encode())
            sent += len(batch)
        return sent

    def _post(self, body: bytes) -> None:
        request = urllib.request.Request(self._url, body, {"Content-Type": "application/json"})  # noqa: S310 - http alone
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310 - the same
                told = answer.read(100_000)
        except urllib.error.HTTPError as error:
            raise SpansRefused(
                f"{self._url} answers {error.code} {error.reason}; is it a collector of OTLP?"
            ) from error
        except OSError as error:
            raise CollectorUnavailable(f"No collector answers at {self._url}: {error}") from error
        if rejected := _count_rejected(told):
            raise SpansRefused(f"{self._url} took all but {rejected} spans")


def encode(spans: Sequence[Span]) -> dict[str, Any]:
    """ExportTraceServiceRequest in the JSON encoding of OTLP 1.x: ids in hexadecimal, times as text."""
    resource = {"attributes": _encode_attributes({"service.name": "fedlog"})}
    scope = {"scope": {"name": "fedlog.log"}, "spans": [_encode_span(span) for span in spans]}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [scope]}]}


def _encode_span(span: Span) -> dict[str, Any]:
    more: dict[str, Any] = {"parentSpanId": span.parent} if span.parent else {}
    if span.error:
        more["status"] = {"code": _ERROR, "message": span.error}
    if span.links:
        more["links"] = [{"traceId": trace, "spanId": first} for trace, first in span.links]
    return {
        "traceId": span.trace,
        "spanId": span.id,
        "name": span.name,
        "kind": _INTERNAL,
        "startTimeUnixNano": str(span.start_ms * 1_000_000),
        "endTimeUnixNano": str(span.end_ms * 1_000_000),
        "attributes": _encode_attributes(span.attributes),
        **more,
    }


def _encode_attributes(attributes: Mapping[str, Value]) -> list[dict[str, Any]]:
    return [{"key": name, "value": dict(_encode_value(value))} for name, value in attributes.items()]


def _encode_value(value: Value) -> Iterator[tuple[str, Any]]:
    # A truth value is a whole number too, to Python.
    if isinstance(value, bool):
        yield "boolValue", value
    elif isinstance(value, int):
        yield "intValue", str(value)
    else:
        yield ("doubleValue" if isinstance(value, float) else "stringValue"), value


def _count_rejected(told: bytes) -> int:
    try:
        return int(json.loads(told or b"{}").get("partialSuccess", {}).get("rejectedSpans", 0))
    # Whoever answers 200 with something else has taken them, as far as the protocol says.
    except (ValueError, TypeError, AttributeError):
        return 0
