"""What a codec saves and what it costs: writes the table of docs/codecs.md.

    python -m tests.bench.measures.codecs

Devices train with torch, clip, encode with error feedback and without; the server decodes, sums, steps: the product's
own functions in one loop, without a log between them, so that nothing but the codec differs from row to row.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from statistics import mean, stdev
from typing import Any

import msgspec
import numpy as np

from actors.deciders.arithmetic import optimizers, sums
from client_agent.compression import compress, protect
from client_agent.learning.data import Part
from client_agent.learning.examples import digits
from schemas.policy import Policy
from schemas.tensors import Floats, clipping, encode_update, read_update
from tests.learners import evaluate, initial, train
from tests.root import ROOT
from tests.trials.results import add_row, commit
from tests.worlds.builders import policy

PAGE = ROOT / "docs/codecs.md"
CODECS = ("float32", "float16", "int8", "int4", "topk")
DEVICES, ROUNDS, SEEDS = 10, 15, 3
LARGE = 1_000_000
MODELS: dict[str, dict[str, Any]] = {
    "softmax regression": {
        "model": "client_agent.learning.models:softmax_regression",
        "training": {"epochs": 2, "batch_size": 16, "learning_rate": 0.5},
    },
    "small CNN": {
        "model": "client_agent.learning.models:simple_cnn",
        "training": {"epochs": 2, "batch_size": 16, "learning_rate": 0.1},
    },
}


def rules(codec: str, *, error_feedback: bool = True, **fields: Any) -> Policy:
    """The demo's task without privacy, whose noise would hide what a codec loses."""
    plain = policy(
        compression={"codec": codec, "error_feedback": error_feedback},
        clipping={"norm": 1.0},
        aggregation={"updates_per_round": DEVICES},
        selection={"devices_expected": DEVICES, "concurrency": DEVICES},
    )
    return msgspec.convert({**msgspec.to_builtins(plain), **fields}, Policy)


def trained(task: Policy, seed: int) -> tuple[float, float]:
    """Held-out accuracy after ROUNDS rounds of all devices, and the mean size of a body in bytes."""
    _, model = initial(task, seed)
    data = [digits(Part(index=number, count=DEVICES, seed=seed)) for number in range(DEVICES)]
    residuals: list[Floats | None] = [None] * DEVICES
    sizes = []
    for turn in range(ROUNDS):
        running = sums.RunningSum(model.size)
        for number, examples in enumerate(data):
            delta = train(task, model, *examples, seed=1000 * turn + number)
            sent = compress(protect(delta, residuals[number], norm=task.clipping.norm), policy=task)
            residuals[number] = sent.residual
            sizes.append(len(sent.body))
            quanta = read_update(sent.body, task, parameters=model.size)
            running.add(quanta, weight=task.weights()[0], scale=clipping.clip_scale(quanta, task.clipping.steps))
        step = optimizers.mean(running.total(), task, members=DEVICES, weight_sum=DEVICES * task.weights()[0])
        model, _ = optimizers.step(task.optimizer, model, moments=None, delta=step)
    return evaluate(task, model, *digits(Part(split="test")))["accuracy"], mean(sizes)


def large_bytes(codec: str) -> int:
    """The body of a million parameters, normal and as long as the clip: nothing in it can be guessed."""
    delta = np.random.default_rng(1).standard_normal(LARGE, np.float32) / np.float32(np.sqrt(LARGE))
    return len(encode_update(delta, rules(codec)))


def rows() -> Iterator[dict[str, Any]]:
    """One row for each codec and model, with error feedback and without."""
    for codec in CODECS:
        large = large_bytes(codec)
        for name, fields in MODELS.items():
            for feedback in (True, False):
                task = rules(codec, error_feedback=feedback, **fields)
                found = [trained(task, seed) for seed in range(SEEDS)]
                accuracies = [accuracy for accuracy, _ in found]
                yield {
                    "codec": codec,
                    "model": name,
                    "error_feedback": feedback,
                    "parameters": initial(task)[1].size,
                    "body_bytes": round(mean(size for _, size in found)),
                    "body_bytes_1m": large,
                    "accuracy": round(mean(accuracies), 4),
                    "accuracy_stdev": round(stdev(accuracies), 4),
                    "seeds": SEEDS,
                    "rounds": ROUNDS,
                }


def page(found: list[dict[str, Any]]) -> str:
    """docs/codecs.md."""
    table = [
        f"| `{row['codec']}` | {row['model']} ({row['parameters']:,}) | {'yes' if row['error_feedback'] else 'no'} "
        f"| {row['body_bytes']:,} | {row['body_bytes_1m']:,} "
        f"| {100 * row['accuracy']:.1f} % ± {100 * row['accuracy_stdev']:.1f} |"
        for row in found
    ]
    return _PAGE.format(devices=DEVICES, rounds=ROUNDS, seeds=SEEDS, commit=commit(), table="\n".join(table))


_PAGE = """# Codecs: bytes and accuracy

Written by `make codecs` (at {commit}); the rows are in `docs/results/codecs.jsonl`. scikit-learn's digits on {devices}
devices, non-IID (Dirichlet 0.3), {rounds} rounds of all of them, clip norm 1, no privacy; held-out accuracy, mean and
standard deviation over {seeds} seeds. Bytes are those of a body, zstd included: on average in that training, and for a
million normally distributed parameters. `topk` keeps the default tenth.

| codec | model (parameters) | error feedback | bytes an update | bytes at 1M | accuracy |
|---|---|---|---|---|---|
{table}

Every codec decodes to whole multiples of the task's step before anything else happens, so that sums stay exact
whichever is chosen; `schemas/tensors/codecs.py` describes the formats at its top. With error feedback a device keeps
what its codec has lost and adds it to its next update.
"""


def main() -> None:
    """Measure, keep the rows, write the page."""
    found = []
    for row in rows():
        sys.stdout.write(f"{row}\n")
        add_row("codecs", row)
        found.append(row)
    PAGE.write_text(page(found))


if __name__ == "__main__":
    main()
