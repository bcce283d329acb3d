"""`make traces`: spans of a whole story go to a real Jaeger, which gives back the traces that they were.

Jaeger is on the PATH, or is built once by Go, from its module, into build/jaeger. Exits with 1 where a trace that it
shows differs from the spans that were sent: in number, names, parents, times or links.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from ops.console import say
from ops.history.tracing.otlp import Collector
from ops.history.tracing.spans import Span, list_spans
from tests.root import ROOT
from tests.tables import synced, tell
from tests.trials.results import add_row
from tests.worlds.deployment.product import find_port

MODULE, VERSION = "github.com/jaegertracing/jaeger/cmd/all-in-one", "v1.76.0"
FOLDER = ROOT / "build" / "jaeger"
READY_WITHIN_S = 60.0
PORTS = (
    "admin.http",
    "collector.grpc-server",
    "collector.http-server",
    "collector.otlp.grpc",
    "collector.otlp.http",
    "query.grpc-server",
    "query.http-server",
)


def find_jaeger() -> str:
    """The program. Exits where neither it nor Go is there."""
    if (found := shutil.which("jaeger-all-in-one")) is not None:
        return found
    built = FOLDER / "jaeger"
    if not built.exists():
        if shutil.which("go") is None:
            sys.exit("Jaeger is missing: put jaeger-all-in-one on the PATH, or install Go to build it with.")
        FOLDER.mkdir(parents=True, exist_ok=True)
        (FOLDER / "go.mod").write_text("module fedlog/jaeger\n\ngo 1.24\n")
        for words in (["get", f"{MODULE}@{VERSION}"], ["build", "-o", str(built), MODULE]):
            subprocess.run(["go", *words], cwd=FOLDER, check=True)
    return str(built)


@contextmanager
def run_jaeger(folder: Path) -> Iterator[dict[str, int]]:
    """One that keeps what it gets in memory; where each part of it listens, on this machine alone."""
    ports = {name: find_port() for name in PORTS}
    words = [f"--{name}.host-port=127.0.0.1:{port}" for name, port in ports.items()]
    with (folder / "jaeger.log").open("wb") as output:
        process = subprocess.Popen(
            [find_jaeger(), *words], stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        give_up_s = time.monotonic() + READY_WITHIN_S
        while True:
            with suppress(OSError), urlopen(f"http://127.0.0.1:{ports['admin.http']}/", timeout=5):
                break
            if time.monotonic() > give_up_s or process.poll() is not None:
                sys.exit((folder / "jaeger.log").read_text()[-2000:])
            time.sleep(0.2)
        yield ports
    finally:
        process.terminate()
        process.wait()


def read_trace(port: int, trace: str) -> list[dict[str, Any]]:
    """The spans of a trace as Jaeger's page would show them."""
    with urlopen(f"http://127.0.0.1:{port}/api/traces/{trace}", timeout=30) as answer:
        told: dict[str, Any] = json.load(answer)
    spans: list[dict[str, Any]] = told["data"][0]["spans"]
    return spans


def describe_sent(spans: list[Span]) -> set[tuple[object, ...]]:
    """What has to come back of each."""
    return {(s.id, s.name, s.parent, s.start_ms, s.end_ms - s.start_ms, frozenset(s.links)) for s in spans}


def describe_shown(spans: list[dict[str, Any]], trace: str) -> set[tuple[object, ...]]:
    """The same as Jaeger has it, in microseconds: a link is a reference to another trace."""
    found = set()
    for span in spans:
        refs = [(ref["traceID"], ref["spanID"]) for ref in span["references"]]
        parent = next((first for other, first in refs if other == trace), "")
        links = frozenset(ref for ref in refs if ref[0] != trace)
        start_ms, lasted_ms = span["startTime"] // 1000, span["duration"] // 1000
        found.add((span["spanID"], span["operationName"], parent, start_ms, lasted_ms, links))
    return found


def main() -> int:
    """Send a story, and read it back."""
    with tempfile.TemporaryDirectory(prefix="fedlog-traces-") as scratch, run_jaeger(Path(scratch)) as ports:
        with synced(Path(scratch) / "history.duckdb", tell().log) as history:
            spans = list(list_spans(history.ask))
        sent = Collector(f"http://127.0.0.1:{ports['collector.otlp.http']}").send(spans)
        traces: dict[str, list[Span]] = {}
        for span in spans:
            traces.setdefault(span.trace, []).append(span)
        differing = [
            trace
            for trace, own in traces.items()
            if describe_shown(read_trace(ports["query.http-server"], trace), trace) != describe_sent(own)
        ]
        # A round from its first update to its last step.
        whole = max((own for own in traces.values() if own[0].name == "round"), key=len)
        say(f"{sent} spans in {len(traces)} traces; {len(differing)} differ; a round: {[s.name for s in whole]}")
    add_row("traces", {"jaeger": VERSION, "spans": sent, "traces": len(traces), "differing": len(differing)})
    return bool(differing)


if __name__ == "__main__":
    sys.exit(main())
