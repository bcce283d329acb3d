"""One message to the app's ClientApp: records made of arrays, the node's context, and what the reply says."""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.app.message import make_message
from flwr.app.metadata import Metadata
from flwr.clientapp import ClientApp
from flwr.clientapp.client_app import LoadClientAppError
from flwr.common.config import get_fused_config_from_dir, get_project_config, parse_config_args
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.proto.recorddict_pb2 import RecordDict as RecordDictBytes
from flwr.supercore.object_ref import load_app
from flwr.supercore.task_identity import TaskIdentity

# The names under which apps count rounds in the settings that they send.
ROUNDS = ("server-round", "server_round", "current_round")
EXAMPLES = ("num-examples", "num_examples")
TTL_S = 30 * 86_400.0


class AppError(Exception):
    """The app cannot be run this way; the message says what to change."""


class App:
    """The components of the app in `folder`, and its settings; `run_config` is what `flwr run --run-config` takes."""

    def __init__(self, folder: str, run_config: list[str]) -> None:
        self.folder = Path(folder)
        self._components = get_project_config(self.folder)["tool"]["flwr"]["app"]["components"]
        self.run_config = get_fused_config_from_dir(self.folder, parse_config_args(run_config or None))
        self._client: ClientApp | None = None

    def load(self, component: str) -> Any:
        """Its "serverapp" or "clientapp"."""
        if component not in self._components:
            raise AppError(f"the app has no {component} among its components")
        return load_app(self._components[component], LoadClientAppError, self.folder)

    def make_context(self, node: dict[str, Any]) -> Context:
        """The context of a node: its number, its settings, and what it has kept."""
        # What Flower's messages take for their sender.
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, node["run"], node["id"]
        return Context(
            run_id=node["run"],
            node_id=node["id"],
            node_config=node["config"],
            state=decode_records(node["state"]),
            run_config=dict(self.run_config),
        )

    def call(self, message: Message, context: Context) -> Message:
        """The ClientApp's reply, after its mods. Raises what the app raises."""
        # Once a process, as in Flower's own engine: apps keep their data set in their module.
        self._client = self._client or self.load("clientapp")
        reply = self._client(message, context)
        if not isinstance(reply, Message):
            raise AppError(f"the ClientApp gave {type(reply).__name__}, expected a Message")
        if reply.has_error():
            raise AppError(f"the ClientApp replied with an error: {reply.error.reason}")
        return reply


def make_request(request: dict[str, Any]) -> RecordDict:
    """What the ServerApp would send in this round: its settings, with this model."""
    content = decode_records(request["template"])
    if request["kind"] == "evaluate":
        # Older apps have a name of its own for the same record.
        content = RecordDict({name.replace("fitins.", "evaluateins."): record for name, record in content.items()})
    for name, record in content.items():
        if isinstance(record, ArrayRecord):
            content[name] = ArrayRecord({key: Array(np.asarray(value)) for key, value in request["arrays"].items()})
        elif isinstance(record, ConfigRecord):
            record.update({key: request["round"] for key in ROUNDS if key in record})
    return content


def address(content: RecordDict, kind: str, *, node: dict[str, Any]) -> Message:
    """A message to a node, as it arrives there."""
    metadata = Metadata(
        run_id=node["run"],
        message_id=f"{node['id']:x}",
        src_node_id=1,
        dst_node_id=node["id"],
        reply_to_message_id="",
        group_id="",
        created_at=time.time(),
        ttl=TTL_S,
        message_type=kind,
    )
    return make_message(metadata, content)


def read_reply(reply: Message) -> dict[str, Any]:
    """The arrays of a reply, its examples, and its metrics: numbers by name, and lists of numbers."""
    metrics: dict[str, Any] = {}
    for name, record in reply.content.items():
        # Older apps give their metrics as settings.
        if isinstance(record, MetricRecord) or name.endswith("res.metrics"):
            metrics |= {key: value for key, value in record.items() if not isinstance(value, str | bytes)}
    counts = [metrics.pop(name) for name in EXAMPLES if name in metrics]
    return {
        "arrays": read_arrays(reply.content),
        "examples": int(counts[0]) if counts else None,
        "metrics": metrics,
    }


def read_arrays(content: RecordDict) -> list[dict[str, Any]]:
    """The arrays by name, of each record of arrays."""
    records = [record for record in content.values() if isinstance(record, ArrayRecord)]
    return [{name: array.numpy() for name, array in record.items()} for record in records]


def encode_records(records: RecordDict) -> bytes:
    """The bytes of records, by Flower's own serialisation."""
    return bytes(recorddict_to_proto(records).SerializeToString(deterministic=True))


def decode_records(data: bytes) -> RecordDict:
    """The records in bytes; none in no bytes."""
    return recorddict_from_proto(RecordDictBytes.FromString(data))


def seed_all(seed: int) -> None:
    """The same lease trains the same way where the app draws from the usual generators."""
    random.seed(seed)
    np.random.seed(seed % (1 << 32))  # noqa: NPY002
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)
