"""What an update of the whole loop costs in arithmetic alone: one process, no log, no disk, nothing decided or kept."""

from __future__ import annotations

import hashlib
import time

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from actors.deciders.arithmetic import optimizers, sums
from client_agent.compression import compress, protect
from schemas.policy import WEIGHT_ONE
from schemas.signing import is_signed_by, parse_signed, sign
from schemas.tensors import Floats, clipping, pack, read_update, unpack
from tests.bench.measures.whole_loop import Loop
from tests.bench.peers import nothing

CHECKIN_BYTES = 200
ROUNDS = 3  # and one before them that warms everything up


def floor_ms(loop: Loop) -> float:
    """Milliseconds of CPU an update: this arithmetic, with nothing around it."""
    model = _round(loop, np.zeros(loop.parameters, np.float32))
    began_s = time.thread_time()
    for _ in range(ROUNDS):
        model = _round(loop, model)
    return 1000 * (time.thread_time() - began_s) / (ROUNDS * loop.updates_per_round)


def _round(loop: Loop, model: Floats) -> Floats:
    """One round, its release, and a download in each process of the fleet; the next model."""
    rules, running = loop.rules, sums.RunningSum(loop.parameters)
    key = Ed25519PrivateKey.generate()
    delta = nothing.make_delta(loop.parameters)
    residual = np.zeros_like(delta) if rules.compression.error_feedback else None
    for _ in range(loop.updates_per_round):
        made = compress(protect(delta, residual, norm=rules.clipping.norm), policy=rules)
        residual, digest = made.residual, hashlib.sha256(made.body).digest()
        for message in (bytes(CHECKIN_BYTES), digest):
            assert is_signed_by(parse_signed(sign(message, key)), key.public_key().public_bytes_raw())
        assert hashlib.sha256(made.body).digest() == digest
        quanta = read_update(made.body, rules, parameters=loop.parameters)
        running.add(quanta, weight=WEIGHT_ONE, scale=clipping.clip_scale(quanta, rules.clipping.steps))
    total, members = running.total(), loop.updates_per_round
    mean = optimizers.mean(total, rules, members=members, weight_sum=members * WEIGHT_ONE)
    after = optimizers.step(rules.optimizer, model, moments=None, delta=mean).model
    sums.sum_digest(total)
    body = pack(after)
    digest = hashlib.sha256(body).digest()
    for _ in range(loop.processes):
        assert hashlib.sha256(body).digest() == digest
        unpack(body, "float32", count=loop.parameters)
    return after
