"""APPFL's simulator in virtual time, whose clients train digits one after the other; it knows nothing of fedlog.

python appfl_app.py digits.npz CLIENTS ROUNDS      rounds of a tenth of the clients, one JSON object at the end
"""

from __future__ import annotations

import gc
import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

import torch
from appfl.agent import ClientAgent, ServerAgent
from appfl.config import ClientAgentConfig, ServerAgentConfig
from appfl.vsim import ClientProfile, SyncSimDriver
from omegaconf import OmegaConf

EPOCHS, BATCH, LEARNING_RATE = 5, 8, 0.5
SHARE = 10  # of the clients one in so many takes part in a round

MODEL = """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))

    def forward(self, features):
        return self.layers(features)
"""
METRIC = """
import numpy as np

def accuracy(labels, outputs):
    return float(np.mean(np.argmax(outputs, axis=-1) == labels))
"""
DATA = """
from functools import cache

import numpy as np
import torch
from torch.utils.data import TensorDataset

@cache
def read(path):
    with np.load(path) as archive:
        return dict(archive)

def share(path, number):
    found = read(path)
    mine = found["owner"] == number
    return TensorDataset(torch.from_numpy(found["x"][mine]), torch.from_numpy(found["y"][mine])), None
"""


def make_server(clients: int, rounds: int, per_round: int) -> Any:
    """FedAvg over those who took part."""
    return ServerAgent(
        ServerAgentConfig(
            client_configs=OmegaConf.create(
                {
                    "train_configs": {
                        "trainer": "VanillaTrainer",
                        "mode": "epoch",
                        "num_local_epochs": EPOCHS,
                        "optim": "SGD",
                        "optim_args": {"lr": LEARNING_RATE},
                        "loss_fn": "CrossEntropyLoss",
                        "metric_path": str(Path("metric.py").resolve()),
                        "metric_name": "accuracy",
                        "train_batch_size": BATCH,
                        # It would collect Python's garbage several times for each client and round.
                        "optimize_memory": False,
                        "device": "cpu",
                        "do_validation": False,
                    },
                    "model_configs": {"model_path": str(Path("model.py").resolve()), "model_name": "Net"},
                }
            ),
            server_configs=OmegaConf.create(
                {
                    "num_clients": per_round,
                    "scheduler": "SyncScheduler",
                    "scheduler_kwargs": {"same_init_model": True},
                    "aggregator": "FedAvgAggregator",
                    "aggregator_kwargs": {"client_weights_mode": "equal"},
                    "device": "cpu",
                    "num_global_epochs": rounds,
                    "optimize_memory": False,
                }
            ),
        )
    )


def make_client(path: str, number: int, shared: Any) -> Any:
    """One client with its share."""
    agent = ClientAgent(
        ClientAgentConfig(
            data_configs=OmegaConf.create(
                {
                    "dataset_path": str(Path("data.py").resolve()),
                    "dataset_name": "share",
                    "dataset_kwargs": {"path": path, "number": number},
                }
            ),
            train_configs=OmegaConf.create({"device": "cpu"}),
        )
    )
    agent.client_id = f"client-{number}"
    agent.load_config(shared)
    return agent


def main() -> None:
    """The clock begins when all clients are made."""
    path, clients, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)
    logging.disable(logging.CRITICAL)
    for name, text in (("model.py", MODEL), ("metric.py", METRIC), ("data.py", DATA)):
        Path(name).write_text(text)
    per_round = max(1, clients // SHARE)
    server = make_server(clients, rounds, per_round)
    # It collects Python's garbage for every client and round, whatever its settings say. What was imported is none, and
    # would be half of its time.
    gc.freeze()
    agents = [make_client(path, number, server.get_client_configs()) for number in range(clients)]
    profiles = {agent.get_id(): ClientProfile() for agent in agents}
    driver = SyncSimDriver(
        server, agents, profiles, per_round, logging.getLogger("peer"), base_step_time=0.001, target_rounds=rounds
    )
    gc.freeze()
    began_s = time.monotonic()
    driver.run()
    seconds = time.monotonic() - began_s
    # Its history has an entry a round.
    print(json.dumps({"updates": per_round * len(driver.history), "seconds": seconds}))  # noqa: T201


if __name__ == "__main__":
    main()
