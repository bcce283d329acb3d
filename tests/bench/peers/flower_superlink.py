"""Flower's SuperLink under raw clients of its fleet HTTP API that train nothing; run by the peer's own interpreter.

    python flower_superlink.py PARAMETERS DTYPE NODES UPDATES CONNECTIONS      one JSON object at the end

An update is a reply to a message: it is announced, and each object of which it consists is pushed. It is accepted when
its last object is. Messages are fetched, and replies made and signed for, before the clock starts.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime as dt
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import raw_http
from flower_deployment import BIN, await_port, port, prepare, start
from flwr.app import ArrayRecord, Message, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto import fleet_pb2, message_pb2, node_pb2
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.primitives.asymmetric import generate_key_pairs, public_key_to_bytes, sign_message

IDLE = (10, 1_000, 10_000)
WARM = 4
PATIENCE_S = 300.0


@dataclass
class Reply:
    """What a node pushes: the message, and the objects of which it consists."""

    node: Node
    announced: bytes
    objects: dict[str, bytes]
    run: int


@dataclass
class Node:
    """One raw SuperNode."""

    keys: Any = field(default_factory=generate_key_pairs)
    id: int = 0
    headers: dict[str, str] = field(default_factory=dict)

    def sign(self) -> None:
        """The same signature is good for five minutes."""
        private, public = self.keys
        now = dt.datetime.now(tz=dt.UTC).isoformat()
        self.headers = {
            "content-type": "application/protobuf",
            "accept": "application/protobuf",
            "flwr-timestamp": now,
            "flwr-public-key": base64.b64encode(public_key_to_bytes(public)).decode(),
            "flwr-signature": base64.b64encode(sign_message(private, now.encode())).decode(),
        }

    async def ask(self, connection: raw_http.Connection, name: str, request: Any, answer: type[Any]) -> Any:
        """One call of the fleet API."""
        status, _, data = await connection.ask("POST", f"/v1/fleet/{name}", request.SerializeToString(), self.headers)
        if status != 200:
            raise SystemExit(f"{name}: {status} {data[:300]!r}")
        told = answer()
        told.ParseFromString(data)
        return told

    async def join(self, connection: raw_http.Connection) -> None:
        """Become a node that may take part."""
        self.sign()
        key = public_key_to_bytes(self.keys[1])
        registering = fleet_pb2.RegisterNodeFleetRequest(public_key=key)
        await self.ask(connection, "register-node", registering, fleet_pb2.RegisterNodeFleetResponse)
        activating = fleet_pb2.ActivateNodeRequest(public_key=key, heartbeat_interval=PATIENCE_S)
        told = await self.ask(connection, "activate-node", activating, fleet_pb2.ActivateNodeResponse)
        self.id = told.node_id

    async def pull(self, connection: raw_http.Connection) -> Message:
        """The next message, which has to be there."""
        request = fleet_pb2.PullMessagesRequest(node=node_pb2.Node(node_id=self.id))
        told = await self.ask(connection, "pull-messages", request, fleet_pb2.PullMessagesResponse)
        return message_from_proto(told.messages_list[0])

    def answer(self, message: Message, parameters: int, dtype: str) -> Reply:
        """A reply with arrays of its own, so that no object of it is there already."""
        values = np.random.default_rng().integers(-127, 127, parameters).astype(dtype)
        reply = Message(RecordDict({"arrays": ArrayRecord([values])}), reply_to=message)
        objects = {key: held.deflate() for key, held in get_all_nested_objects(reply).items()}
        tree = get_object_tree(reply)
        bare = message_to_proto(remove_content_from_message(reply))
        announced = fleet_pb2.PushMessagesRequest(
            node=node_pb2.Node(node_id=self.id),
            messages_list=[bare],
            message_object_trees=[tree],
            clientapp_runtime_list=[0.1],
        )
        return Reply(self, announced.SerializeToString(), objects, message.metadata.run_id)


async def push(connection: raw_http.Connection, reply: Reply) -> None:
    """Hand in one update."""
    node = reply.node
    status, _, data = await connection.ask("POST", "/v1/fleet/push-messages", reply.announced, node.headers)
    if status != 200:
        raise SystemExit(f"push-messages: {status} {data[:300]!r}")
    told = fleet_pb2.PushMessagesResponse()
    told.ParseFromString(data)
    for name in told.objects_to_push:
        request = message_pb2.PushObjectRequest(
            node=node_pb2.Node(node_id=node.id),
            run_id=reply.run,
            object_id=name,
            object_content=reply.objects[name],
            session_id=told.session_id,
        )
        stored = await node.ask(connection, "push-object", request, message_pb2.PushObjectResponse)
        if not stored.stored:
            raise SystemExit("an object was not stored")


async def load(link: int, pid: int, report: Path) -> dict[str, Any]:
    """Everything that is measured."""
    parameters, dtype, nodes, updates, connections = sys.argv[1:6]
    connection = raw_http.Connection(link)
    members = [Node() for _ in range(int(nodes))]
    for member in members:
        await member.join(connection)
    give_up_s = time.monotonic() + PATIENCE_S
    while not os.path.exists(report):  # noqa: ASYNC240, PTH110
        if time.monotonic() > give_up_s:
            raise SystemExit("the ServerApp has sent nothing")
        await asyncio.sleep(0.2)
    replies = [
        member.answer(await member.pull(connection), int(parameters), dtype)
        for _ in range(int(updates) // len(members))
        for member in members
    ]
    for member in members:
        member.sign()
    for reply in replies[:WARM]:
        await push(connection, reply)
    before_s, held_mb = raw_http.read_cpu_s(pid), raw_http.read_rss_mb(pid)
    seconds, took = await raw_http.work_through(replies[WARM:], link, push, connections=int(connections))
    count = len(replies) - WARM
    return {
        "updates": count,
        "seconds": seconds,
        "cpu_ms": 1000 * (raw_http.read_cpu_s(pid) - before_s) / count,
        **raw_http.tell_latency(took),
        "before_mb": held_mb,
        "rss_mb": raw_http.read_rss_mb(pid),
        "requests_each": 1 + len(replies[0].objects),
        "idle_mb": await raw_http.measure_idle(link, pid, IDLE, "/health"),
    }


def run() -> None:
    """Start a SuperLink and a run, measure, end exactly what was started."""
    folder, link = Path.cwd(), port()
    report = folder / "report"
    prepare(folder, link, app="flower_messages")
    told = {"PEER_NODES": sys.argv[3], "PEER_ROUNDS": sys.argv[4], "PEER_REPORT": str(report)}
    home = {"PATH": f"{BIN}:{os.environ['PATH']}", "FLWR_HOME": str(folder / ".flwr"), "FLWR_TELEMETRY_ENABLED": "0"}
    os.environ.update(told | home)
    raw_http.allow_connections()
    with contextlib.ExitStack() as stack:
        words = ("flower-superlink", "--insecure", "--disable-runtime-dependency-installation")
        child = start(stack, *words, "--host", "127.0.0.1", "--port", str(link))
        await_port(link)
        subprocess.run([str(BIN / "flwr"), "run", ".", "local"], check=True, stdout=sys.stderr)
        print(json.dumps(asyncio.run(load(link, child.pid, report))))  # noqa: T201


if __name__ == "__main__":
    run()
