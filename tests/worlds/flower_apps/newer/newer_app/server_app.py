"""The server's side: first arrays of three kinds, settings for training, and an evaluation of its own."""

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """As in Flower's examples."""
    arrays = ArrayRecord(
        {
            "mean": Array(np.random.normal(size=3)),  # noqa: NPY002
            "norm.num_batches_tracked": Array(np.array(0)),
            "norm.running_mean": Array(np.zeros(2, np.float32)),
        }
    )
    # More nodes than a grid shows at first.
    strategy = FedAvg(fraction_train=0.5, min_available_nodes=50)
    result = strategy.start(
        grid=grid,
        initial_arrays=arrays,
        train_config=ConfigRecord({"lr": context.run_config["learning-rate"], "layers": [1, 2]}),
        evaluate_config=ConfigRecord({"bins": 4}),
        num_rounds=context.run_config["num-server-rounds"],
        evaluate_fn=evaluate_centrally,
    )
    raise AssertionError(f"the strategy ran on to {result}")


def evaluate_centrally(server_round: int, arrays: ArrayRecord) -> MetricRecord:
    """Its data would lie with the server, and nowhere else."""
    return MetricRecord({"distance": float(np.abs(arrays["mean"].numpy() - 2.0).sum()), "central": 1})
