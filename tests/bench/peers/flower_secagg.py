"""One round of Flower's SecAgg+: its own workflow and its own client mod, in one process and without a network.

`flower_secagg.py PARAMETERS CLIENTS DROPPED SHARES THRESHOLD`: the dropped leave once they have shared their keys, when
it costs others most. The last line has processor times, bytes and whether the mean is right.
"""

from __future__ import annotations

import json
import random
import sys
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.client.mod import secaggplus_mod
from flwr.common import Code, FitIns, FitRes, Status, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.compat.common import recorddict_compat as compat
from flwr.server import LegacyContext
from flwr.server.strategy import FedAvg
from flwr.server.workflow import SecAggPlusWorkflow
from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD, Key
from flwr.supercore.task_identity import TaskIdentity

CLIP, TARGET = 8.0, 1 << 16


def main() -> None:
    """Run it once."""
    parameters, clients, dropped, shares, threshold = map(int, sys.argv[1:])
    # What a runtime sets, of which there is none here.
    TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = 1, 1, 0
    strategy, network = Strategy(clients, parameters), Network(clients, parameters, dropped=dropped)
    state = RecordDict()
    state.config_records[MAIN_CONFIGS_RECORD] = ConfigRecord({Key.CURRENT_ROUND: 1})
    state.array_records[MAIN_PARAMS_RECORD] = compat.parameters_to_arrayrecord(strategy.start, keep_input=True)
    context = LegacyContext(_make_context(0, state), strategy=strategy)
    workflow = SecAggPlusWorkflow(
        shares, threshold, clipping_range=CLIP, quantization_range=TARGET, max_weight=1.0, modulus_range=1 << 32
    )
    began_s, began_cpu_s = time.monotonic(), time.process_time()
    workflow(network, context)
    whole_s, cpu_s = time.monotonic() - began_s, time.process_time() - began_cpu_s
    devices_s = sum(map(sum, network.cpu_s.values())) + network.own_s
    stayed = [node for node in network.cpu_s if node not in network.gone]
    expected = np.mean([network.vectors[node] for node in stayed], axis=0)
    told = {
        "updates": len(stayed),
        "is_right": strategy.mean is not None and bool(np.abs(strategy.mean - expected).max() < 2 * CLIP / TARGET),
        "device_cpu_ms": 1e3 * float(np.mean([sum(network.cpu_s[node]) for node in stayed])),
        "server_cpu_s": cpu_s - devices_s,
        # With every device on a machine of its own: a stage ends with its slowest.
        "sum_s": cpu_s - devices_s + sum(map(max, zip(*(network.cpu_s[node] for node in stayed), strict=True))),
        "up_bytes": float(np.mean([network.up_bytes[node] for node in stayed])),
        "down_bytes": float(np.mean([network.down_bytes[node] for node in stayed])),
        "wall_s": whole_s,
    }
    sys.stdout.write(json.dumps(told) + "\n")


class Strategy(FedAvg):
    """Everybody takes part, and the mean is kept."""

    def __init__(self, clients: int, parameters: int) -> None:
        super().__init__()
        self.start = ndarrays_to_parameters([np.zeros(parameters, np.float32)])
        self.proxies = [SimpleNamespace(node_id=1 + number, cid=str(number)) for number in range(clients)]
        self.mean: Any = None

    def configure_fit(self, server_round: int, parameters: Any, client_manager: Any) -> Any:
        """The model goes to each."""
        return [(proxy, FitIns(self.start, {})) for proxy in self.proxies]

    def aggregate_fit(self, server_round: int, results: Any, failures: Any) -> Any:
        """What the workflow has unmasked stands in each result."""
        [self.mean] = parameters_to_ndarrays(results[0][1].parameters)
        return results[0][1].parameters, {}


class Network:
    """Hands each message to the mod of its client, and measures that; those that are `gone` answer no more."""

    def __init__(self, clients: int, parameters: int, *, dropped: int) -> None:
        nodes = range(1, clients + 1)
        draw = np.random.default_rng(1)
        self.vectors = {node: draw.normal(0, 0.1, parameters).astype(np.float32) for node in nodes}
        self.gone = set(random.Random(1).sample(nodes, dropped))
        self.cpu_s: dict[int, list[float]] = {node: [] for node in nodes}
        self.up_bytes, self.down_bytes = dict.fromkeys(nodes, 0), dict.fromkeys(nodes, 0)
        self._contexts = {node: _make_context(node, RecordDict()) for node in nodes}
        self._stage, self.own_s = 0, 0.0

    def send_and_receive(self, messages: Any, **_: Any) -> list[Message]:
        """One stage."""
        self._stage += 1
        answers = []
        for message in messages:
            node = message.metadata.dst_node_id
            if node in self.gone and self._stage > 2:
                continue
            entered_s = time.process_time()
            sent = recorddict_to_proto(message.content)
            # A copy, as each client gets one: the mod takes apart what it is given.
            message.content = recorddict_from_proto(sent)
            began_s = time.process_time()
            answer = secaggplus_mod(message, self._contexts[node], self._train)
            ended_s = time.process_time()
            self.down_bytes[node] += sent.ByteSize()
            self.up_bytes[node] += recorddict_to_proto(answer.content).ByteSize()
            self.cpu_s[node].append(ended_s - began_s)
            answers.append(answer)
            # What the network would do is neither the server's nor a device's.
            self.own_s += time.process_time() - entered_s - (ended_s - began_s)
        return answers

    def _train(self, message: Message, context: Context) -> Message:
        update = ndarrays_to_parameters([self.vectors[message.metadata.dst_node_id]])
        found = FitRes(status=Status(Code.OK, ""), parameters=update, num_examples=1, metrics={})
        return Message(compat.fitres_to_recorddict(found, keep_input=False), reply_to=message)


def _make_context(node: int, state: RecordDict) -> Context:
    return Context(run_id=1, node_id=node, node_config={}, state=state, run_config={})


if __name__ == "__main__":
    main()
