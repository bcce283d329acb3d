"""The client's side: local steps of least squares on the node's own points."""

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def train(message, context):
    """Twenty steps from the version that came with the message."""
    (x, y), line = load_points(context), message.content["arrays"]["line"].numpy().copy()
    for _ in range(20):
        line -= context.run_config["learning-rate"] * x.T @ (x @ line - y) / len(y)
    records = {
        "arrays": ArrayRecord({"line": Array(line)}),
        "metrics": MetricRecord({"num-examples": len(y)}),
    }
    return Message(RecordDict(records), reply_to=message)


@app.evaluate()
def evaluate(message, context):
    """The share of the variance that the version explains."""
    (x, y), line = load_points(context), message.content["arrays"]["line"].numpy()
    r2 = 1 - float(((y - x @ line) ** 2).mean() / y.var())
    return Message(RecordDict({"metrics": MetricRecord({"num-examples": len(y), "r2": r2})}), reply_to=message)


def load_points(context):
    """Points around y = 2 x + 1: each node has others."""
    draw = np.random.default_rng(context.node_config["partition-id"])
    x = np.stack([draw.uniform(-1, 1, 50), np.ones(50)], axis=1)
    return x, x @ np.array([2.0, 1.0]) + draw.normal(0, 0.1, 50)
