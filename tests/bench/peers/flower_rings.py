"""Flower's FedAvg on a model and data of fedlog's; run by the peer's own interpreter, it knows nothing of fedlog.

    python flower_rings.py FOLDER ROUNDS

FOLDER has `rings.py` with `model()` and `data(part)`, `task.json` (how many nodes there are and train a round, epochs,
batch size, learning rate, seeds), and the first model of each seed in `start-SEED.npz`.
"""

from __future__ import annotations

import json
import os
import sys
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from torch import nn

FOLDER = Path(os.environ.get("PEER_FOLDER", "."))
ROUNDS = int(os.environ.get("PEER_ROUNDS", "3"))

client = ClientApp()
server = ServerApp()


@cache
def task() -> Any:
    """What to train, and the user's module; read once a process."""
    torch.set_num_threads(1)
    sys.path.insert(0, str(FOLDER))
    found = json.loads((FOLDER / "task.json").read_text())
    return SimpleNamespace(**found, rings=__import__("rings"))


def load(split: str, index: int, *, seed: int) -> tuple[Any, Any]:
    """The examples of a node, or the held-out ones, as fedlog hands them out."""
    part = SimpleNamespace(split=split, index=index, count=task().devices, seed=seed, folder=None)
    features, labels = task().rings.data(part)
    return torch.from_numpy(features.astype(np.float32)), torch.from_numpy(labels)


@client.train()
def train(message: Message, context: Context) -> Message:
    """Epochs of SGD in shuffled batches; the new weights and how many examples they stand for."""
    chosen, index = task(), int(context.node_config["partition-id"])
    module = chosen.rings.model()
    module.load_state_dict(message.content["arrays"].to_torch_state_dict())
    config = message.content["config"]
    seed, number = int(config["seed"]), int(config["server-round"])
    features, labels = load("train", index, seed=seed)
    optimizer = torch.optim.SGD(module.parameters(), lr=chosen.learning_rate)
    shuffle = torch.Generator().manual_seed(hash((seed, index, number)))
    for _ in range(chosen.epochs):
        for batch in torch.split(torch.randperm(len(labels), generator=shuffle), chosen.batch_size):
            optimizer.zero_grad(set_to_none=True)
            nn.functional.cross_entropy(module(features[batch]), labels[batch]).backward()
            optimizer.step()
    told = {"arrays": ArrayRecord(module.state_dict()), "metrics": MetricRecord({"num-examples": len(labels)})}
    return Message(content=RecordDict(told), reply_to=message)


@server.main()
def main(grid: Grid, context: Context) -> None:
    """One training a seed, and the accuracies of each."""
    curves = [train_once(grid, seed) for seed in task().seeds]
    print(json.dumps({"updates": task().cohort * ROUNDS, "curves": curves}))  # noqa: T201


def train_once(grid: Grid, seed: int) -> list[float]:
    """FedAvg over a drawn cohort a round; the accuracy on the held-out examples before the first and after each."""
    chosen = task()
    with np.load(FOLDER / f"start-{seed}.npz") as archive:
        start = ArrayRecord({name: torch.from_numpy(array) for name, array in archive.items()})
    features, labels = load("test", 0, seed=seed)

    def evaluate(server_round: int, arrays: ArrayRecord) -> MetricRecord:
        module = chosen.rings.model()
        module.load_state_dict(arrays.to_torch_state_dict())
        with torch.no_grad():
            right = (module(features).argmax(1) == labels).float().mean()
        return MetricRecord({"accuracy": float(right)})

    strategy = FedAvg(
        fraction_train=chosen.cohort / chosen.devices,
        fraction_evaluate=0.0,
        min_train_nodes=chosen.cohort,
        min_available_nodes=chosen.devices,
    )
    given = ConfigRecord({"seed": seed})
    result = strategy.start(
        grid=grid, initial_arrays=start, num_rounds=ROUNDS, train_config=given, evaluate_fn=evaluate
    )
    scores = result.evaluate_metrics_serverapp
    return [float(scores[number]["accuracy"]) for number in sorted(scores)]


if __name__ == "__main__":
    FOLDER, ROUNDS = Path(sys.argv[1]), int(sys.argv[2])
    os.environ.update(PEER_FOLDER=str(FOLDER), PEER_ROUNDS=str(ROUNDS))
    # By its name, so that Ray's workers import it too, each once.
    import flower_rings
    from flwr.simulation import run_simulation

    run_simulation(
        server_app=flower_rings.server,
        client_app=flower_rings.client,
        num_supernodes=flower_rings.task().devices,
        backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}},
    )
