"""What a device does to a trained vector before it sends it, in milliseconds of processor time: clip, encode, mask."""

from __future__ import annotations

import hashlib
import secrets

import numpy as np

from client_agent.compression import clip, compress
from schemas.masking import ring
from schemas.masking.seeds import seal_seeds, write_header
from schemas.sealing.envelopes import SECRET_BYTES, EpochSecret
from schemas.tensors import clipping
from tests.bench.machine import find_cpu_ms
from tests.worlds.builders import lease, policy

CODECS = ("float32", "float16", "int8", "int4", "topk", "ring32")
HELPERS = 2


def measure(codec: str, parameters: int, *, repeats: int) -> dict[str, float]:
    """Milliseconds of each step, the best of some repeats; `ring32` is what the tier masked sends."""
    is_masked = codec == "ring32"
    masked = {"tier": "masked", "masked": {"helpers": tuple(f"{number:064x}" for number in range(HELPERS))}}
    rules = policy(
        clipping={"norm": 1.0},
        compression={"codec": "float32" if is_masked else codec},
        **masked if is_masked else {},
    )
    delta = np.random.default_rng(1).normal(0, 0.1, parameters).astype(np.float32)
    protected = clip(delta, rules.clipping.norm)
    found = {
        "clip_ms": find_cpu_ms(lambda: clip(delta, rules.clipping.norm), repeats=repeats),
        "encode_ms": find_cpu_ms(lambda: compress(protected, policy=rules), repeats=repeats),
    }
    if is_masked:
        quanta = compress(protected, policy=rules).quanta
        assert quanta is not None
        keys = [EpochSecret(secrets.token_bytes(SECRET_BYTES)).public_key for _ in range(HELPERS)]
        header = write_header(lease(epoch=0))

        def mask() -> None:
            seeds = [secrets.token_bytes(ring.SEED_BYTES) for _ in keys]
            scale = clipping.clip_scale(quanta, rules.clipping.steps)
            sent = ring.mask(quanta, scale, seeds=seeds, header=header)
            seal_seeds(seeds, header, body_sha256=hashlib.sha256(sent).digest(), public_keys=keys)

        found["mask_ms"] = find_cpu_ms(mask, repeats=repeats)
    return found
