"""`make bench`: every row on an embedded broker, a table, build/bench.json, and from it docs/performance.md.

make bench ONLY=ingest          one row; the page keeps the newest of the others
make bench ONLY=gateway PART=idle   one of its parts: 2410, 100000, 1000000, idle, fire
make bench ONLY=masking PART=loop   the same of this row: round, device, loop
make bench QUICK=1              a minute or two, no peers, nothing recorded: does it still run?
make bench GATE=1               exit code 1 when the gate on ingest is missed
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

from ops.processes import broker
from streams.kafka.settings import KafkaSettings
from tests.bench import machine
from tests.bench.measures import noise
from tests.bench.measures.masking import rows as masking
from tests.bench.measures.robust import rows as robust
from tests.bench.pages import page
from tests.bench.row import Bench, Row
from tests.bench.rows import crowd, demo, end_to_end, gateway, growth, history, ingest, latency, replay, shards, tasks
from tests.bench.rows import page as web_page
from tests.trials.results import ROOT, add_row, rows

ALL: dict[str, ModuleType] = {
    module.NAME: module
    for module in (
        ingest,
        end_to_end,
        latency,
        noise,
        replay,
        history,
        web_page,
        gateway,
        shards,
        robust,
        masking,
        tasks,
        growth,
        demo,
        crowd,
    )
}
PEERS = tuple(dict.fromkeys([*end_to_end.PEERS, *gateway.PEERS, *crowd.PEERS]))
FIGURES = ROOT / "build" / "bench.json"
COLUMNS = ("name", "params", "codec", "updates_per_s", "cpu_ms_per_update", "mb_per_s", "share_of_floor", "peer")


def main() -> int:
    """Measure what is asked for; the exit code tells of the gate only where that is asked for too."""
    asked = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("told to end"))
    began = datetime.now(UTC).isoformat(timespec="seconds")
    with tempfile.TemporaryDirectory() as name, broker.run_embedded(Path(name) / "broker") as handle:
        bench = Bench(
            broker=KafkaSettings(**handle.connection),
            folder=Path(name),
            runs=1 if asked.quick else asked.runs,
            quick=asked.quick,
            peers=() if asked.quick else tuple(asked.peers),
            part=asked.part,
        )
        found = [row for each in asked.only or ALL for row in measured(each, bench, began=began)]
    told = [asdict(row) for row in found] if asked.quick else newest(rows("bench"))
    FIGURES.parent.mkdir(exist_ok=True)
    FIGURES.write_text(json.dumps(told, indent=1) + "\n")
    if not asked.quick:
        page.write(told)
    gate = [row for row in found if ingest.missed(row)]
    for row in gate:
        sys.stdout.write(f"The gate is missed: {row.share_of_floor:.0%} of the floor, at least {ingest.GATE:.0%}\n")
    return 1 if gate and asked.gate else 0


def measured(name: str, bench: Bench, *, began: str) -> list[Row]:
    """All rows of a name: each is shown as soon as it is known, and none recorded before the last."""
    found = []
    for row in ALL[name].rows(bench):
        found.append(row)
        sys.stdout.write(line(row) + "\n")
        sys.stdout.flush()
    for row in [] if bench.quick else found:
        add_row("bench", {"began": began, **asdict(row), "machine": machine.told()})
    return found


def newest(recorded: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each name and peer, and of each part, the rows of its last run; the latest run first."""
    last = {_name_case(row): row["began"] for row in recorded}
    order = list(ALL)
    kept = [row for row in recorded if row["began"] == last[_name_case(row)]]
    kept.sort(key=lambda row: row["began"], reverse=True)
    return sorted(kept, key=lambda row: order.index(row["name"]))


def _name_case(row: dict[str, Any]) -> tuple[Any, ...]:
    is_parted = row["name"] == gateway.NAME
    return (row["name"], row["peer"] if not is_parted else "", *(gateway.name_part(row) if is_parted else ()))


def line(row: Row) -> str:
    """One row for the screen."""
    cells = [f"{'' if value is None else value!s:>12}" for value in (getattr(row, column) for column in COLUMNS)]
    ratio = f"{row.ratio_median:.2f} ({row.ratio_min:.2f} … {row.ratio_max:.2f})" if row.ratio_median else ""
    return " ".join([*cells, ratio, json.dumps({k: v for k, v in row.more.items() if "curve" not in k})])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--only", action="append", choices=[*ALL], help="one row; may be given again")
    parser.add_argument("--runs", type=int, default=5, help="paired runs of each row")
    parser.add_argument("--peers", nargs="*", default=[*PEERS], choices=PEERS)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--gate", action="store_true")
    parser.add_argument(
        "--part", default="", choices=["", *gateway.PARTS, *masking.PARTS], help="of gateway or masking"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
