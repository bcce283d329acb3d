"""One aggregator that lives on: `python -m tests.trials.soak.life [minutes] [updates a second]`.

The product of the soak. The aggregator is killed once, because an opening reads what a
first life never does; then nobody is. Says what its memory is each minute, and how it grows once all that is
remembered for ten minutes is there. Adds to docs/results.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from ops.console import say
from tests.trials.results import add_row
from tests.trials.soak.judging import FILLED_S
from tests.trials.soak.sampling import read_process
from tests.trials.soak.trends import WARM_UP_S, find_trend
from tests.worlds.deployment.product import Product

KILLED_AFTER_S = 120.0
LOOK_EVERY_S = 5.0
NAME = "aggregator"


def run(product: Product, seconds: float) -> Iterator[tuple[float, float]]:
    """Seconds of the aggregator's second life, and the MiB of its own."""
    product.until_version(1, timeout_s=300.0)
    time.sleep(KILLED_AFTER_S)
    product.kill(NAME)
    begun_s = told_s = time.monotonic()
    while (now_s := time.monotonic()) - begun_s < seconds:
        list(product.tend())
        for part in product.list_parts():
            memory = dict(read_process(part.process)).get("memory") if part.name == NAME else None
            if memory is not None:
                yield now_s - begun_s, memory
                if now_s - told_s >= 60.0:
                    told_s = now_s
                    say(f"{now_s - begun_s:5.0f} s: {memory:.1f} MiB")
        time.sleep(LOOK_EVERY_S)


def main(minutes: float = 25.0, rate: float = 10.0) -> None:
    """Run it, and say what came of it."""
    with tempfile.TemporaryDirectory(prefix="fedlog-standing-") as scratch:
        with Product(Path(scratch) / "f", rate=rate) as product:
            product.start()
            life = [*run(product, minutes * 60)]
        trend = find_trend([life], warm_up_s=FILLED_S)
    row = {"minutes": minutes, "rate": rate, "begins_mib": next(mib for at_s, mib in life if at_s > WARM_UP_S)}
    row["ends_mib"] = life[-1][1]
    row |= {} if trend is None else {name: round(getattr(trend, name), 2) for name in ("slope", "low", "high")}
    add_row("life", row)
    say(str(row))


if __name__ == "__main__":
    main(*map(float, sys.argv[1:]))
