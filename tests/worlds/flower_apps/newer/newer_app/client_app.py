"""The client's side: a mod, state, and two kinds of message. Some nodes misbehave."""

import os
import sys
import time

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

FAULTS = {90: "raise", 91: "exit", 92: "die", 93: "hang", 94: "print"}


def count_calls(message, context, call_next):
    """A mod: it sees message and reply, and marks both."""
    message.content["mod"] = ConfigRecord({"seen": True})
    reply = call_next(message, context)
    reply.content["metrics"]["mod_calls"] = 1
    return reply


app = ClientApp(mods=[count_calls])


@app.train()
def train(message: Message, context: Context) -> Message:
    """Move to the node's data, and remember how often."""
    misbehave(context)
    assert message.content["mod"]["seen"]
    settings, record = message.content["config"], message.content["arrays"]
    counted = context.state.get("counted", MetricRecord({"leases": 0}))["leases"] + 1
    context.state["counted"] = MetricRecord({"leases": counted})
    data = np.full(3, 1.0 + context.node_config["partition-id"])
    mean = record["mean"].numpy()
    arrays = {
        "mean": Array(mean + settings["lr"] * (data - mean)),
        "norm.num_batches_tracked": Array(np.asarray(record["norm.num_batches_tracked"].numpy() + 1)),
        "norm.running_mean": Array(record["norm.running_mean"].numpy() + np.float32(1)),
    }
    metrics = {
        "num-examples": 10 + context.node_config["partition-id"],
        "leases": counted,
        "round": settings["server-round"],
        "drawn": float(np.random.rand()),  # noqa: NPY002
        "batches": int(arrays["norm.num_batches_tracked"].numpy()),
        "partitions": context.node_config["num-partitions"],
        "curve": [1.0, 2.0],
    }
    return answer(message, arrays=ArrayRecord(arrays), metrics=MetricRecord(metrics))


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """How far the model is from the node's data."""
    distance = np.abs(message.content["arrays"]["mean"].numpy() - 1.0 - context.node_config["partition-id"]).sum()
    metrics = {"num-examples": 1, "distance": float(distance), "bins": message.content["config"]["bins"]}
    return answer(message, metrics=MetricRecord(metrics))


def answer(message: Message, **records) -> Message:
    """A reply to a message."""
    return Message(RecordDict(records), reply_to=message)


def misbehave(context: Context) -> None:
    """Do what an app must not, where the number of the node says so."""
    fault = FAULTS.get(context.node_config["partition-id"])
    if fault == "raise":
        raise RuntimeError("no such file")
    if fault == "exit":
        sys.exit(3)
    if fault == "die":
        os._exit(7)
    if fault == "hang":
        time.sleep(600)
    if fault == "print":
        sys.stdout.write("this is no answer\n" * 1000)
        sys.stdout.flush()
        os.write(1, b"nor is this\n")
