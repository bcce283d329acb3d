"""Full replay beside the aggregator that wrote the journal: the same updates, recomputed from the bodies."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from ops.audit.replay import Audit
from streams.kafka.log import KafkaLog
from streams.kafka.settings import KafkaSettings
from tests.bench.machine import peak_mb
from tests.bench.measures import ingest
from tests.bench.row import Bench, Row, median, ratios
from tests.trials.results import ROOT
from tests.worlds.builders import ANCHOR

NAME = "replay"
# Parameters, and updates after those that are taken before the clock starts; of small ones so many that waiting for the
# broker again and again would show.
SIZES = {2_410: 27_480, 1_000_000: 180}
K = 50


def rows(bench: Bench) -> Iterator[Row]:
    """One row a size, releases included on both sides; the ratio is the aggregator's CPU through the replay's."""
    for parameters, updates in list(SIZES.items())[: 1 if bench.quick else None]:
        many = 180 if bench.quick else updates
        case = ingest.Case(parameters=parameters, codec="int8", updates=many, updates_per_round=K)
        pairs = [_pair(case, bench.broker) for _ in range(bench.runs)]
        written, replayed = ([each[side]["cpu_ms"] for each in pairs] for side in (0, 1))
        yield Row(
            name=NAME,
            params=parameters,
            codec="int8",
            cpu_ms_per_update=median(replayed),
            peer="aggregator",
            **ratios(written, replayed),
            more={
                "peer_cpu_ms": median(written),
                "wall_ms": median([each[1]["wall_ms"] for each in pairs]),
                "peak_mb": median([each[1]["peak_mb"] for each in pairs]),
            },
        )


def _pair(case: ingest.Case, broker: KafkaSettings) -> tuple[dict[str, Any], dict[str, Any]]:
    settings = ingest.filled(case, broker)
    options = ingest.words(case, settings)
    told = [_child(module, options) for module in ("tests.bench.measures.ingest", "tests.bench.rows.replay")]
    return told[0], told[1]


def _child(module: str, options: list[str]) -> dict[str, Any]:
    command = [sys.executable, "-m", module, *options]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """The child that replays; a difference is no figure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--child")
    parser.add_argument("--updates", type=int)
    asked, _ = parser.parse_known_args()
    log = KafkaLog(KafkaSettings(**json.loads(asked.child)))
    began_s, began_wall_s = time.process_time(), time.monotonic()
    found = Audit(log, ingest.PARTITION, anchor=ANCHOR, full=True, to=None).run()
    cpu_s, wall_s = time.process_time() - began_s, time.monotonic() - began_wall_s
    updates = asked.updates + ingest.WARM
    if found.differences or found.unchecked or found.sums != updates // K:
        raise SystemExit(f"{found.sums} sums, {found.differences}, {found.unchecked}")
    told = {"cpu_ms": cpu_s, "wall_ms": wall_s}
    sys.stdout.write(
        json.dumps({name: 1000 * seconds / updates for name, seconds in told.items()} | {"peak_mb": peak_mb()}) + "\n"
    )


if __name__ == "__main__":
    main()
