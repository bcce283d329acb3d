"""One masked round of the real actors and helpers over the log in memory, and what it costs each of them.

`python -m tests.bench.measures.masking.one_round PARAMETERS CLIENTS DROPPED` in a process of its own. The dropped ones
have their lease and never come; the round is full without them.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from client_agent.compression import clip, compress
from client_agent.local_update import mask_update
from schemas.events import SumStored
from schemas.leases import read_lease
from schemas.topics import MASKS, ROUNDS, UPDATES
from streams.log import TopicPartition, scan
from tests.worlds.masking.federation import MaskedFederation, masked_policy

HELPERS = 2


def measure(parameters: int, clients: int, dropped: int) -> dict[str, Any]:
    """Processor times and bytes, once."""
    stayed = clients - dropped
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rules = masked_policy(
            folder,
            helpers=HELPERS,
            aggregation={"updates_per_round": stayed},
            selection={"devices_expected": 2 * clients, "concurrency": clients},
        )
        world = MaskedFederation(rules, folder, parameters=parameters)
        names = [f"d{number}" for number in range(clients)]
        world.check_in(*names)
        devices_ms, up_bytes, server_s = [], [], 0.0
        for device in names[:stayed]:
            spent, size = _submit(world, device)
            devices_ms.append(1e3 * spent)
            up_bytes.append(size)
            # As they come: an aggregator adds each before the next one is there.
            server_s += _clock(lambda: world.feed("aggregator"))[1]
        helpers_s = [_clock(helper.step, 0.0)[1] for helper in world.helpers.values()]
        server_s += _clock(lambda: world.feed("aggregator"))[1]
        is_summed = len(world.events(ROUNDS.name, SumStored)) == 1
        said = list(scan(world.log, TopicPartition(MASKS.name, world.partition)))
        for number in range(HELPERS):
            world.stop_helper(number)
    return {
        "updates": stayed,
        "is_right": is_summed,
        "device_cpu_ms": mean(devices_ms),
        "helper_cpu_s": mean(helpers_s),
        "server_cpu_s": server_s,
        # With devices and helpers on machines of their own.
        "sum_s": max(devices_ms) / 1e3 + server_s + max(helpers_s),
        "up_bytes": mean(up_bytes),
        "helper_bytes": 4 * parameters + max(len(record.value or b"") for record in said),
    }


def _submit(world: MaskedFederation, name: str) -> tuple[float, int]:
    """A device's part once it has trained: clip, encode, mask, seal, sign; its seconds, and the bytes that it sends."""
    granted, device = world.device(name).granted(), world.device(name)
    delta = np.random.default_rng(len(name)).normal(0, 0.1, world.parameters).astype(np.float32)
    created, rules = world.created, world.rules
    made, encoded_s = _clock(lambda: compress(clip(delta, rules.clipping.norm), policy=rules))
    assert made.quanta is not None
    quanta, lease = made.quanta, read_lease(granted.sealed)
    sent, masked_s = _clock(lambda: mask_update(created, lease, quanta=quanta, granted=granted))
    assert sent.envelope is not None
    before = _measure_updates(world)
    offset, sent_s = _clock(lambda: world.send(device, sent, lease=granted, inline=False))
    del offset
    return encoded_s + masked_s + sent_s, len(sent.envelope) + _measure_updates(world) - before


def _measure_updates(world: MaskedFederation) -> int:
    at = TopicPartition(UPDATES.name, world.partition)
    return sum(len(record.value or b"") for record in scan(world.log, at))


def _clock(call: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    began_s = time.process_time()
    found = call(*arguments)
    return found, time.process_time() - began_s


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(*map(int, sys.argv[1:]))) + "\n")
