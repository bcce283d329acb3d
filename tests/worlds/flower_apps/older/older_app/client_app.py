"""The client's side: a NumPyClient, made anew for each message, that keeps a history in the node's state."""

import numpy as np
from flwr.client import ClientApp, NumPyClient
from flwr.common import ConfigRecord, Context


class MeanClient(NumPyClient):
    """Its data are its number."""

    def __init__(self, context: Context) -> None:
        self.state = context.state
        self.epochs = context.run_config["local-epochs"]
        self.data = 1.0 + context.node_config["partition-id"]
        if "fit_metrics" not in self.state.config_records:
            self.state.config_records["fit_metrics"] = ConfigRecord({"history": [0.0]})

    def get_parameters(self, config):
        """Where the model starts."""
        return [np.zeros((2, 2), np.float32), np.zeros(1, np.float32)]

    def fit(self, parameters, config):
        """Half of the way to the data, each epoch."""
        for _ in range(self.epochs):
            parameters = [array + np.float32(config["lr"] * (self.data - array.mean())) for array in parameters]
        history = self.state.config_records["fit_metrics"]["history"]
        history.append(float(parameters[1].mean()))
        return parameters, 20, {"leases": len(history) - 1, "round": config["current_round"], "note": "text"}

    def evaluate(self, parameters, config):
        """The distance to the data."""
        return float(abs(parameters[0].mean() - self.data)), 20, {"nearness": 1.0}


def client_fn(context: Context):
    """A client for one message."""
    return MeanClient(context).to_client()


app = ClientApp(client_fn=client_fn)
