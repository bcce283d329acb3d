"""The server's side: where the model starts. Aggregation, rounds and sampling are those of fedlog's policy."""

import numpy as np
from flwr.app import Array, ArrayRecord
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg

app = ServerApp()


@app.main()
def main(grid, context):
    """Run up to its first messages, for the first arrays and settings."""
    start = ArrayRecord({"line": Array(np.zeros(2))})
    rounds = context.run_config["num-server-rounds"]
    FedAvg().start(grid=grid, initial_arrays=start, num_rounds=rounds)
