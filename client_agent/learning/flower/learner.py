"""A Flower app as a learner: its ClientApp is called with Flower's own messages, where Flower is installed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from client_agent.learning.data import Part
from client_agent.learning.flower.apps import find_app, find_python
from client_agent.learning.flower.process import AppProcess
from client_agent.learning.foreign import LearnerError
from client_agent.learning.layout import ModelError
from client_agent.learning.learner import Array, Arrays, Context, Metrics, Parameter

OPEN_S = 600.0
ANSWER_S = 600.0
EXAMPLES_MAX = 1 << 40
# Statistics of a batch normalisation: the server's optimizer must not step them.
AVERAGED = ("*running_mean", "*running_var")
# Where a device's state holds the app's own.
STATE = "flower"


@dataclass(slots=True)
class Node:
    """The data of one device: an app reads them itself, by the number of its part.

    `examples` is 1 until the app has told in a reply how many it trained with.
    """

    part: Part
    examples: int = 1
    device: str = ""
    state: bytes = b""

    def __len__(self) -> int:
        return self.examples

    def follow(self, context: Context) -> None:
        """Be the device of a lease, in the state that it starts from."""
        self.device, self.state = context.device, context.state.get(STATE, b"")

    def describe(self, run: int) -> dict[str, Any]:
        """The node as Flower's context has it."""
        who = hashlib.sha256((self.device or str(self.part)).encode()).digest()
        return {
            "run": run,
            "id": int.from_bytes(who[:8]) >> 1,
            "config": {"partition-id": self.part.index, "num-partitions": self.part.count},
            "state": self.state,
        }


@dataclass(frozen=True, slots=True)
class Message:
    """What the app's server sends first of one kind: its settings, and the action that it names."""

    kind: str
    template: bytes


@dataclass(slots=True)
class Model:
    """The arrays that the app starts from, and what it sends along."""

    start: dict[str, Array] = field(default_factory=dict)
    messages: dict[str, Message] = field(default_factory=dict)
    has_central: bool = False


class ClientApp:
    """`app` names a folder; `run_config` overrides its settings, as `flwr run --run-config` does.

    `partitions` is the number of parts where no device is: for an app whose first arrays come from a client, and for an
    evaluator. `averaged` and `local` are patterns of array names.
    """

    def __init__(
        self,
        app: str,
        *,
        run_config: str | Sequence[str] = (),
        partitions: int = 10,
        averaged: Sequence[str] = AVERAGED,
        local: Sequence[str] = (),
    ) -> None:
        folder, overrides = find_app(app), [run_config] if isinstance(run_config, str) else list(run_config)
        overrides = [text for text in overrides if text]
        self._run = int.from_bytes(hashlib.sha256(repr((app, overrides)).encode()).digest()[:8]) >> 1
        self._partitions = partitions
        self._roles = tuple(averaged), tuple(local)
        self._model = Model()
        python = find_python(folder)
        self._client = AppProcess(python, folder, overrides)
        # Apart, because what an app keeps in its module for the one component must not serve the other.
        self._server = AppProcess(python, folder, overrides)

    def initialize(self, seed: int) -> dict[str, Parameter | Array]:
        """The arrays of the server's first message: floating ones train or are averaged, whole numbers stay local."""
        model = self._open(seed)
        # Its interpreter, libraries and model are needed again by an evaluator alone.
        self._server.close()
        if "train" not in model.messages:
            raise ModelError(f"the app trains nothing: its server begins with {sorted(model.messages)}")
        return {name: self._describe(name, array) for name, array in model.start.items()}

    def load(self, part: Part) -> Node:
        """The part, which the app reads itself."""
        return Node(part)

    def train(self, start: Arrays, data: Node, *, context: Context) -> tuple[dict[str, Array], Metrics]:
        """The ClientApp's answer to a train message. Raises LearnerError."""
        data.follow(context)
        answer = self._ask(
            "train",
            start,
            node=data.describe(self._run),
            timeout_s=find_limit_s(context),
            round=context.version + 1,
            seed=context.seed,
        )
        if len(answer["arrays"]) != 1:
            raise LearnerError(f"the app replied with {len(answer['arrays'])} records of arrays, expected one")
        # The update carries this number, because it is read after the training.
        data.examples = count_told(answer)
        data.state = context.state[STATE] = answer["state"]
        return self._check_names(answer["arrays"][0]), choose_numbers(answer["metrics"])

    def evaluate(self, parameters: Arrays, data: Node) -> Metrics:
        """On a device its ClientApp's metrics; elsewhere the ServerApp's own, or the mean over all parts."""
        if data.part.split == "train":
            return self._evaluate_part(parameters, data)[1]
        if self._model.has_central:
            return self._score(parameters)
        parts = [Node(Part(index=i, count=self._partitions)) for i in range(self._partitions)]
        return average([self._evaluate_part(parameters, part) for part in parts])

    def query(self, data: Node, context: Context) -> dict[str, Any]:
        """The metrics of the ClientApp's answer to the server's query: numbers, and lists of numbers."""
        if not self._model.messages:
            self._open(context.seed)
            self._server.close()
        data.follow(context)
        answer = self._ask(
            "query", {}, node=data.describe(self._run), timeout_s=find_limit_s(context), seed=context.seed
        )
        context.state[STATE] = answer["state"]
        return dict(answer["metrics"])

    def _open(self, seed: int) -> Model:
        node = Node(Part(count=self._partitions)).describe(self._run)
        told = self._server.ask("open", timeout_s=OPEN_S, seed=seed, node=node)
        self._model.messages = {
            kind: Message(message["kind"], message["template"]) for kind, message in told["messages"].items()
        }
        self._model.has_central = told["has_central"]
        arrays = told["messages"].get("train", {}).get("arrays", [{}])
        if len(arrays) != 1:
            raise ModelError(f"the app sends {len(arrays)} records of arrays to train with, expected one")
        self._model.start = arrays[0]
        return self._model

    def _describe(self, name: str, array: Array) -> Parameter:
        averaged, local = self._roles
        if not np.issubdtype(array.dtype, np.floating) or any(fnmatchcase(name, pattern) for pattern in local):
            return Parameter(array, "local")
        return Parameter(array, "averaged" if any(fnmatchcase(name, pattern) for pattern in averaged) else "trained")

    def _ask(
        self, kind: str, arrays: Arrays, *, node: dict[str, Any], timeout_s: float = ANSWER_S, **rest: Any
    ) -> dict[str, Any]:
        """The ClientApp's answer to the server's message of this kind, with these arrays."""
        messages = self._model.messages
        if kind not in messages and "train" not in messages:
            raise LearnerError(f"the app's server sends no {kind} message")
        # A server that never evaluates its clients has settings for their training alone.
        message = messages.get(kind) or Message(kind, messages["train"].template)
        asked = {"round": 1, "seed": 0, **rest}
        return self._client.ask(
            "call",
            timeout_s=timeout_s,
            kind=message.kind,
            template=message.template,
            arrays=self._restore(arrays),
            node=node,
            **asked,
        )

    def _evaluate_part(self, parameters: Arrays, node: Node) -> tuple[int, dict[str, float]]:
        answer = self._ask("evaluate", parameters, node=node.describe(self._run))
        return count_told(answer), choose_numbers(answer["metrics"])

    def _score(self, parameters: Arrays) -> dict[str, float]:
        # Its function cannot leave the process that made it, which was closed after the first messages.
        if self._server.process is None:
            self._open(0)
        answer = self._server.ask("score", timeout_s=ANSWER_S, arrays=self._restore(parameters), round=1)
        return choose_numbers(answer["metrics"])

    def _restore(self, arrays: Arrays) -> dict[str, Array]:
        """In the app's order and precision, which the wire does not keep."""
        start = self._model.start
        return {name: np.asarray(arrays[name], start[name].dtype) for name in start if name in arrays}

    def _check_names(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        if arrays.keys() != self._model.start.keys():
            differing = sorted(arrays.keys() ^ self._model.start.keys())
            raise LearnerError(f"the app replied with other arrays than it was sent: {differing[:8]}")
        return dict(arrays)


def find_limit_s(context: Context) -> float:
    """How long an app may take: until its lease ends, and so before the device would end its own process for it."""
    return max(0.0, min(context.left_s, context.policy.lease_ms / 1000))


def count_told(answer: Mapping[str, Any]) -> int:
    """How many examples a reply tells of, 1 where it tells of none. Raises LearnerError for what no device holds."""
    told = answer["examples"] or 1
    # The update and every later check-in carry it: one that is no count would end the device, not the lease.
    if type(told) is not int or not 0 < told <= EXAMPLES_MAX:
        raise LearnerError(f"the app says that it trained with {str(told)[:40]} examples")
    return told


def choose_numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The metrics that are numbers; those of a list become `name[0]`, `name[1]` and so on."""
    lists = {name: value for name, value in metrics.items() if isinstance(value, list)}
    single = {name: value for name, value in metrics.items() if name not in lists}
    several = {f"{name}[{i}]": value for name, values in lists.items() for i, value in enumerate(values)}
    return {name: float(value) for name, value in {**single, **several}.items() if isinstance(value, int | float)}


def average(answers: Sequence[tuple[int, dict[str, float]]]) -> dict[str, float]:
    """The mean of metrics, weighted by examples; only what all answers have."""
    shared = set.intersection(*(set(metrics) for _, metrics in answers))
    total = sum(examples for examples, _ in answers)
    return {name: sum(n * metrics[name] for n, metrics in answers) / total for name in sorted(shared)}
