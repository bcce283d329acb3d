"""The client's side: a histogram of the node's numbers, and how often it was asked."""

import numpy as np
from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.query()
def query(message: Message, context: Context) -> Message:
    """Node n has the numbers 0 to n."""
    bins = message.content["config"]["bins"]
    counts = np.bincount(np.arange(context.node_config["partition-id"] + 1) % bins, minlength=bins)
    asked = context.state.get("asked", MetricRecord({"times": 0}))["times"] + 1
    context.state["asked"] = MetricRecord({"times": asked})
    metrics = {"counts": counts.tolist(), "examples": int(counts.sum()), "asked": asked}
    return Message(RecordDict({"query_results": MetricRecord(metrics)}), reply_to=message)
