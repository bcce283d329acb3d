"""What masks cost, in processor time: `python -m tests.trials.masks` adds a row to docs/results/masks.jsonl.

One thread, a vector of a million elements, two helpers, a round of a hundred; the best of some repeats, because other
processes share the caches.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import sys
import time
from collections.abc import Callable

import numpy as np

from actors.hosts.helper.opening import Seed, sum_masks
from schemas.masking import ring
from schemas.masking.seeds import seal_seeds, write_header
from schemas.sealing.envelopes import SECRET_BYTES, EpochSecret
from schemas.tensors import Quanta
from schemas.tensors.clipping import clip_scale
from tests.trials.results import add_row
from tests.worlds.builders import lease

PARAMETERS, MEMBERS, HELPERS, STEPS = 1_000_000, 100, 2, 1 << 16


def measure_s(call: Callable[[], object], repeats: int = 7) -> float:
    """The processor time of one call."""
    best = float("inf")
    for _ in range(repeats):
        began = time.process_time()
        call()
        best = min(best, time.process_time() - began)
    return best


def measure() -> dict[str, float]:
    """Each part of a round, once."""
    values = np.random.default_rng(1).integers(-STEPS // 500, STEPS // 500, PARAMETERS, np.int32)
    quanta = Quanta.from_values(values)
    keys = [EpochSecret(secrets.token_bytes(SECRET_BYTES)).public_key for _ in range(HELPERS)]
    header = write_header(lease(epoch=0))

    def send() -> tuple[bytes, tuple[bytes, ...]]:
        seeds = [secrets.token_bytes(ring.SEED_BYTES) for _ in keys]
        body = ring.mask(quanta, clip_scale(quanta, STEPS), seeds=seeds, header=header)
        return body, seal_seeds(seeds, header, body_sha256=hashlib.sha256(body).digest(), public_keys=keys)

    body, seals = send()
    words, total = ring.read_words(body, parameters=PARAMETERS), np.zeros(PARAMETERS, np.uint32)
    seeds = [Seed(secrets.token_bytes(ring.SEED_BYTES), header, 1 + number % 15) for number in range(MEMBERS)]
    return {
        "device_ms": 1e3 * measure_s(send),
        "upload_bytes": len(body) + sum(map(len, seals)),
        "helper_s": measure_s(lambda: sum_masks(seeds, 0, parameters=PARAMETERS), 3),
        "add_ms": 1e3 * measure_s(lambda: ring.add_weighted(total, words, weight=7)),
        "unmask_ms": 1e3 * measure_s(lambda: ring.unmask(total, [words] * HELPERS)),
    }


if __name__ == "__main__":
    row = {"parameters": PARAMETERS, "members": MEMBERS, "helpers": HELPERS}
    row |= {name: round(value, 3) for name, value in measure().items()}
    add_row("masks", row)
    sys.stdout.write(json.dumps(row) + "\n")
