"""`make logs`: what a real run logs goes through OpenTelemetry's collector, as ops/collector.yaml sets it up.

The collector is built once by Go, from its modules, into build/shipping; what it sends comes here instead of to Loki
or Elasticsearch. Every JSON line has to come with each of its fields as it was, under its time, severity and trace, and
its event has to be in the catalogue. Adds to docs/results, and exits with 1 where a line is lost or another one.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from ops.console import say
from ops.log_catalogue import CATALOGUE
from tests.root import ROOT
from tests.trials.results import add_row
from tests.worlds.deployment.product import OPEN, Product

OTEL, CONTRIB = "go.opentelemetry.io/collector", "github.com/open-telemetry/opentelemetry-collector-contrib"
VERSION, RECEIVER = "v0.165.0", "v0.165.1"
MODULES = (
    f"{OTEL}/otelcol@{VERSION}",
    f"{OTEL}/exporter/otlphttpexporter@{VERSION}",
    f"{CONTRIB}/receiver/filelogreceiver@{RECEIVER}",
)
FOLDER, SOURCE = ROOT / "build" / "shipping", Path(__file__).with_name("collector.go")
CONFIGURATION = ROOT / "ops" / "collector.yaml"
READ_WITHIN_S = 90.0
SEVERITIES = {"debug": 5, "info": 9, "warning": 13, "error": 17, "critical": 21}
FIELDS = ("task", "round", "version", "seq", "offset", "update", "trace_id")
Line = dict[str, Any]


def main() -> int:
    """Run, ship, compare."""
    parser = argparse.ArgumentParser(prog="make logs", description=__doc__)
    parser.add_argument("--logs", type=Path, help="a folder with logs of an earlier run, instead of a new one")
    asked = parser.parse_args()
    program = find_collector()
    with tempfile.TemporaryDirectory(prefix="fedlog-logs-") as scratch:
        row = compare(*ship(program, asked.logs or run_for_logs(Path(scratch) / "f"), Path(scratch)))
    add_row("logs", {"collector": VERSION, **row})
    say(json.dumps(row))
    return bool(row["lost"] or row["differing"] or row["unknown"])


def run_for_logs(folder: Path) -> Path:
    """A run in which an aggregator dies; where its logs are."""
    with Product(folder, has_gateway=False) as product:
        product.start()
        product.until_version(2, timeout_s=300.0)
        product.kill("aggregator")
        product.until_version(product.count_versions()[OPEN] + 2, timeout_s=300.0)
    return folder / "logs"


def find_collector() -> str:
    """The program. Exits where Go is missing."""
    built = FOLDER / "collector"
    if not built.exists():
        if shutil.which("go") is None:
            sys.exit("Go is missing, which builds the collector.")
        FOLDER.mkdir(parents=True, exist_ok=True)
        shutil.copy(SOURCE, FOLDER / "main.go")
        (FOLDER / "go.mod").write_text("module fedlog/shipping\n\ngo 1.25\n")
        for words in (["get", *MODULES], ["mod", "tidy"], ["build", "-o", str(built), "."]):
            subprocess.run(["go", *words], cwd=FOLDER, check=True)
    return str(built)


@contextmanager
def receive() -> Iterator[tuple[str, list[Line]]]:
    """Where logs of OTLP may be sent, and the records that have come."""
    found: list[Line] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            scopes = [scope for resource in told["resourceLogs"] for scope in resource["scopeLogs"]]
            found.extend(record for scope in scopes for record in scope["logRecords"])
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", found
    finally:
        server.shutdown()
        server.server_close()


def ship(program: str, logs: Path, scratch: Path) -> tuple[list[str], list[Line]]:
    """The lines of these logs, and the records that a collector makes of them."""
    lines = [line for file in sorted(logs.glob("*.log")) for line in file.read_text().splitlines() if line]
    # What a person reads here needs no library that speaks protobuf.
    (scratch / "change.yaml").write_text('exporters: {otlphttp: {encoding: json, compression: "none"}}\n')
    words = [program, "--config", str(CONFIGURATION), "--config", str(scratch / "change.yaml")]
    with receive() as (address, found), (scratch / "collector.log").open("wb") as output:
        environment = {**os.environ, "FEDLOG_LOGS": f"{logs}/*.log", "FEDLOG_OTLP": address}
        process = subprocess.Popen(words, env=environment, stderr=output, start_new_session=True)
        try:
            give_up_s = time.monotonic() + READ_WITHIN_S
            while len(found) < len(lines) and time.monotonic() < give_up_s:
                if process.poll() is not None:
                    sys.exit((scratch / "collector.log").read_text()[-2000:])
                time.sleep(0.2)
        finally:
            process.terminate()
            process.wait()
        return lines, found


def compare(lines: list[str], shipped: list[Line]) -> dict[str, Any]:
    """How many lines came through, and what was wrong with others."""
    sent = [json.loads(line, parse_float=_read_number) for line in lines if line.startswith("{")]
    parsed = [record for record in shipped if record["body"]["stringValue"].startswith("{")]
    left = Counter(json.dumps(line, sort_keys=True) for line in sent)
    left.subtract(json.dumps(read_line(record), sort_keys=True) for record in parsed)
    faults = Counter(fault for record in parsed for fault in tell_faults(read_line(record), record))
    fields = Counter(field for line in sent for field in line)
    return {
        "lines": len(sent),
        "for_people": len(lines) - len(sent),
        "for_people_shipped": len(shipped) - len(parsed),
        "lost": sum(count for count in left.values() if count > 0),
        "differing": sum(-count for count in left.values() if count < 0) + faults.total(),
        "faults": dict(faults),
        "unknown": sorted({line["event"] for line in sent} - CATALOGUE.keys()),
        "events": dict(Counter(line["event"] for line in sent).most_common()),
        "with": {name: fields[name] for name in FIELDS},
    }


def _read_number(text: str) -> float:
    """To JSON 25.0 and 25 are one number, and a collector writes the shorter."""
    number = float(text)
    return int(number) if number.is_integer() else number


def read_line(record: Line) -> Line:
    """The line that a record was made of, but for the name of its file, which the collector adds."""
    told = {each["key"]: read_value(each["value"]) for each in record["attributes"]}
    return {key: value for key, value in told.items() if key != "log.file.name"}


def read_value(value: Line) -> object:
    """A value of OTLP as JSON had it: an empty one was null."""
    match value:
        case {"intValue": number}:
            return int(number)
        case {"arrayValue": array}:
            return [read_value(each) for each in array.get("values", [])]
        case {"kvlistValue": pairs}:
            return {each["key"]: read_value(each["value"]) for each in pairs.get("values", [])}
    return next(iter(value.values()), None)


def tell_faults(line: Line, record: Line) -> Iterator[str]:
    """What a collector has not understood of a line."""
    at_us = round(datetime.fromisoformat(line["timestamp"]).timestamp() * 1e6)
    if int(record.get("timeUnixNano", 0)) != at_us * 1000:
        yield "time"
    if record.get("severityNumber") != SEVERITIES[line["level"]]:
        yield "severity"
    if record.get("traceId", "") != line.get("trace_id", ""):
        yield "trace"


if __name__ == "__main__":
    sys.exit(main())
