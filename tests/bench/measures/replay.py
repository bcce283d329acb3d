"""How fast a journal folds: `python -m tests.bench.measures.replay [decisions]`, a row an actor in replay.jsonl.

The three actors decide a story in memory (check-ins, updates, rounds, charges); then each journal is opened anew,
as after a restart: the chain, canonical decoding, the fold and the metrics, in CPU seconds of one core.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from actors.hosts.metrics import ActorMetrics, PrometheusInstruments
from actors.wiring import ROLES
from tests.bench.measures.trusting import TASK, TrustingWorld
from tests.trials.results import add_row
from tests.worlds.builders import policy

DEVICES = 1_000
RULES = policy(
    selection={"devices_expected": 10 * DEVICES, "concurrency": 10 * DEVICES},
    aggregation={"updates_per_round": 100},
    privacy={"noise_multiplier": 100.0, "rho_max": 100.0},
    stop={"versions_max": 10_000_000, "idle_s": 30 * 86_400.0},
    staleness={"max_versions": 1_000},
    retention={"models_kept": 1_001},
)


def story(decisions: int) -> TrustingWorld:
    """A world whose selector and aggregator have each taken about so many decisions, in turns of 500 devices."""
    world = TrustingWorld(RULES)
    turn = 0
    while world.actors["selector"].state.tasks[TASK].granted < decisions // 2:
        world.train(range(turn % 2 * 500, turn % 2 * 500 + 500))
        turn += 1
    return world


def rows(decisions: int = 20_000, *, tries: int = 3) -> list[dict[str, Any]]:
    """One row an actor: decisions folded again, CPU time of the quickest of some tries, and the rate."""
    world = story(decisions)
    return [_row(world, name, tries=tries) for name in world.actors]


def _row(world: TrustingWorld, name: str, *, tries: int) -> dict[str, Any]:
    events = sum(len(decision.events) for decision in world.journal(name))
    seconds, folded = [], 0
    for _ in range(tries):
        began = time.process_time()
        folded = world.opened(name, observers=[ActorMetrics(ROLES[name], PrometheusInstruments())]).opened.decisions
        seconds.append(time.process_time() - began)
    return {
        "name": f"replay {name}",
        "decisions": folded,
        "events": events,
        "decisions_per_s": round(folded / min(seconds)),
        "events_per_s": round(events / min(seconds)),
        "cpu_us_per_decision": round(min(seconds) / folded * 1e6, 2),
    }


if __name__ == "__main__":
    for row in rows(*map(int, sys.argv[1:])):
        add_row("replay", row)
        sys.stdout.write(json.dumps(row) + "\n")
