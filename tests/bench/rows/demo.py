"""Handwritten digits on 200 devices, without privacy, beside Flower's engine: same model, split, steps and server.

`python -m tests.bench.rows.demo` says what a device-round costs in arithmetic alone, and in training by company.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from client_agent.learning.data import Part
from client_agent.learning.examples import digits
from client_agent.learning.learner import Context
from client_agent.learning.opening import initialize, open_learner
from schemas.signing import is_signed_by, parse_signed, sign
from schemas.tensors import Floats
from tests.bench import peer
from tests.bench.measures.arithmetic import floor_ms
from tests.bench.measures.whole_loop import Loop, run
from tests.bench.row import Bench, Row, figure, median, ratios
from tests.learners import evaluate

NAME = "demo"
DEVICES = 200
PARAMETERS = 650
GOAL = 0.90
AIM = 3.0  # times the rate of Flower's engine
VERSIONS, ROUNDS = 40, 20  # a version takes half of the devices, a round of Flower's all of them
PEER = "flower engine"
SECTIONS: Mapping[str, Any] = {
    "model_arguments": {"inputs": 64, "classes": 10},
    "training": {"epochs": 5, "batch_size": 8, "learning_rate": 0.5},
    "retention": {"models_kept": 1_000},
}
LOOP = Loop(
    parameters=PARAMETERS,
    codec="int8",
    devices=DEVICES,
    updates_per_round=DEVICES // 2,
    model="client_agent.learning.models:softmax_regression",
    sections=SECTIONS,
    keeps_models=True,
)
DATA = "client_agent.learning.examples:digits"
# A device signs its check-in and its update, actors a lease and two answers; all are checked but the lease, which has a
# mark beside its signature.
MADE, CHECKED, MESSAGE_BYTES = 5, 4, 400
GROUPS = (1, 4, 16, 32, 64)
Curve = list[tuple[float, float]]  # seconds since everything was warm, and accuracy


def rows(bench: Bench) -> Iterator[Row]:
    """Device-rounds a second as updates_per_s; the curves of the last pair of runs are in `more`."""
    ours: list[tuple[float, Curve]] = []
    theirs: list[tuple[float, Curve]] = []
    parts_ms: list[dict[str, float]] = []
    for _ in range(bench.runs):
        found = run(bench, LOOP, versions=4 if bench.quick else VERSIONS)
        ours.append((found.updates_per_s, _scored(found.models)))
        parts_ms.append({part: 1000 * cpu_s / found.admitted for part, cpu_s in found.cpu_of.items()})
        if PEER in bench.peers:
            told = peer.run("flower_app.py", str(write_shares(bench.folder, DEVICES)), str(DEVICES), str(ROUNDS))
            models = [np.array(model, np.float32) for model in told["models"]]
            curve = _scored(list(zip(told["rounds_s"], models, strict=True)))
            theirs.append((told["updates"] / told["seconds"], curve))
    yield Row(
        name=NAME,
        params=PARAMETERS,
        codec="int8",
        updates_per_s=median([rate for rate, _ in ours]),
        cpu_ms_per_update=median([sum(parts.values()) for parts in parts_ms]),
        peer=PEER if theirs else "",
        **(ratios([rate for rate, _ in ours], [rate for rate, _ in theirs]) if theirs else {}),
        more={
            **_told("", ours),
            **(_told("peer_", theirs) if theirs else {}),
            "cpu_ms_of": {part: median([parts[part] for parts in parts_ms]) for part in parts_ms[0]},
        },
    )


def _told(whose: str, runs: list[tuple[float, Curve]]) -> dict[str, Any]:
    reached = [next((at_s for at_s, accuracy in curve if accuracy >= GOAL), None) for _, curve in runs]
    return {
        f"{whose}updates_per_s": median([rate for rate, _ in runs]),
        f"{whose}seconds_to_goal": [None if at_s is None else figure(at_s) for at_s in reached],
        f"{whose}curve": [(figure(at_s), round(accuracy, 3)) for at_s, accuracy in runs[-1][1]],
    }


def _scored(models: list[tuple[float, Any]]) -> Curve:
    examples, policy = digits(Part(split="test")), LOOP.rules
    return [(at_s, evaluate(policy, model, *examples)["accuracy"]) for at_s, model in models]


def write_shares(folder: Path, devices: int, *, start: Floats | None = None) -> Path:
    """The split that the fleet has, for the peer to read, and the model that it starts with."""
    path = folder / "digits.npz"
    parts = [digits(Part(index=index, count=devices)) for index in range(devices)]
    owner = np.repeat(np.arange(devices), [len(labels) for _, labels in parts])
    x, y = (np.concatenate([part[side] for part in parts]) for side in (0, 1))
    np.savez(path, x=x, y=y, owner=owner, start=np.zeros(PARAMETERS, np.float32) if start is None else start)
    return path


def tell_floor() -> Iterator[str]:
    """Milliseconds of CPU a device-round: signatures, codec and sum, and training in groups of so many devices."""
    key = Ed25519PrivateKey.generate()
    message, public = sign(bytes(MESSAGE_BYTES), key), key.public_key().public_bytes_raw()
    made_ms, checked_ms = (
        _time_ms(lambda: sign(bytes(MESSAGE_BYTES), key)),
        _time_ms(lambda: is_signed_by(parse_signed(message), public)),
    )
    yield f"signatures, {MADE} made and {CHECKED} checked: {MADE * made_ms + CHECKED * checked_ms:.3f} ms"
    yield f"two of each, codec, sum and release: {floor_ms(LOOP):.3f} ms"
    learner: Any = open_learner(LOOP.rules)
    start = {name: parameter.value for name, parameter in initialize(learner, 0).items()}
    data = [learner.load(Part(plugin=DATA, index=index, count=DEVICES)) for index in range(DEVICES)]
    for count in GROUPS:
        members = [(data[i], Context(version=0, seed=i, policy=LOOP.rules)) for i in range(count)]
        group_ms = _time_ms(partial(learner.train_together, start, members), times=10)
        yield f"training, {count} together: {group_ms / count:.3f} ms"


def _time_ms(call: Callable[[], object], *, times: int = 200) -> float:
    # The first one makes whatever is kept from then on.
    call()
    began_s = time.thread_time()
    for _ in range(times):
        call()
    return 1000 * (time.thread_time() - began_s) / times


if __name__ == "__main__":
    for line in tell_floor():
        sys.stdout.write(f"{line}\n")
