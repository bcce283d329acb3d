"""A Flower app whose clients train nothing, or digits; run by the peer's own interpreter, it knows nothing of fedlog.

    python flower_app.py PARAMETERS NODES ROUNDS      the simulation engine, one JSON object at the end
    python flower_app.py digits.npz NODES ROUNDS      the same, and each node trains softmax regression on its share

As `flower_app:client` and `flower_app:server` the same two apps run in Flower's deployment.
"""

from __future__ import annotations

import json
import os
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

WORK = os.environ.get("PEER_WORK", "2410")
NODES = int(os.environ.get("PEER_NODES", "50"))
ROUNDS = int(os.environ.get("PEER_ROUNDS", "3"))
REPORT = os.environ.get("PEER_REPORT", "")
EPOCHS, BATCH, LEARNING_RATE = 5, 8, 0.5  # of the digits

client = ClientApp()
server = ServerApp()


@client.train()
def train(message: Message, context: Context) -> Message:
    """Return the model as it came plus a constant, or trained, in float32; every client counts alike."""
    [model] = message.content["arrays"].to_numpy_ndarrays()
    if WORK.endswith(".npz"):
        changed = trained(model, int(context.node_config["partition-id"]))
    else:
        changed = model + np.float32(0.001)
    content = RecordDict({"arrays": ArrayRecord([changed]), "metrics": MetricRecord({"num-examples": 1})})
    return Message(content=content, reply_to=message)


def trained(flat: Any, number: int) -> Any:
    """Softmax regression by SGD in small batches, on this node's share."""
    import torch
    from torch import nn

    layer = held(len(flat))
    nn.utils.vector_to_parameters(torch.from_numpy(flat), layer.parameters())
    share = shares()
    mine = share["owner"] == number
    features, labels = torch.from_numpy(share["x"][mine]), torch.from_numpy(share["y"][mine])
    optimizer = torch.optim.SGD(layer.parameters(), lr=LEARNING_RATE)
    for _ in range(EPOCHS):
        for batch in torch.split(torch.randperm(len(labels)), BATCH):
            optimizer.zero_grad(set_to_none=True)
            nn.functional.cross_entropy(layer(features[batch]), labels[batch]).backward()
            optimizer.step()
    return nn.utils.parameters_to_vector(layer.parameters()).detach().numpy()


@cache
def held(parameters: int) -> Any:
    """One module a process: softmax regression, or a layer of 32 before it."""
    import torch
    from torch import nn

    torch.set_num_threads(1)
    if parameters == 650:
        return nn.Linear(64, 10)
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


@cache
def shares() -> dict[str, Any]:
    """Everybody's examples, and whose each is; read once a process."""
    with np.load(WORK) as archive:
        return dict(archive)


class Timed(FedAvg):
    """FedAvg that notes when each aggregation is done, so that start-up is not counted."""

    done_s: list[float] = []
    models: list[list[float]] = []

    def aggregate_train(self, server_round, replies):
        """As FedAvg does."""
        result = super().aggregate_train(server_round, list(replies))
        self.done_s.append(time.monotonic())
        if WORK.endswith(".npz"):
            self.models.append(result[0].to_numpy_ndarrays()[0].tolist())
        return result


@server.main()
def main(grid: Grid, context: Context) -> None:
    """ROUNDS + 1 rounds over all nodes; the first warms everything up and is not counted."""
    strategy = Timed(fraction_train=1.0, fraction_evaluate=0.0, min_train_nodes=NODES, min_available_nodes=NODES)
    start = ArrayRecord([shares()["start"] if WORK.endswith(".npz") else np.zeros(int(WORK), np.float32)])
    strategy.start(grid=grid, initial_arrays=start, num_rounds=ROUNDS + 1)
    since_s = [at_s - strategy.done_s[0] for at_s in strategy.done_s]
    told = {"updates": NODES * ROUNDS, "seconds": since_s[-1], "rounds_s": since_s, "models": strategy.models}
    if REPORT:
        Path(REPORT).write_text(json.dumps(told))
    else:
        print(json.dumps(told))  # noqa: T201


if __name__ == "__main__":
    WORK, NODES, ROUNDS = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    os.environ.update(PEER_WORK=WORK, PEER_NODES=str(NODES), PEER_ROUNDS=str(ROUNDS))
    # By its name, so that Ray's workers import it too, each once, with what it keeps from message to message.
    import flower_app
    from flwr.simulation import run_simulation

    run_simulation(
        server_app=flower_app.server,
        client_app=flower_app.client,
        num_supernodes=NODES,
        backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}},
    )
