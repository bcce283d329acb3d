"""The app's ServerApp on a grid that sends nothing: its first messages hold the model as it starts and its settings."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import Strategy
from flwr.supercore.run import Run

# A strategy waits until there are as many nodes as it wants: each time that it asks there are more.
NODES_FIRST, NODES_MAX = 16, 1 << 14
# The older apps' name of the message that asks a client for the arrays to start from.
GET_PARAMETERS = "get_parameters"

Central = Callable[[int, ArrayRecord], MetricRecord | None]


class AllTaken(BaseException):
    """Nothing more is wanted of the ServerApp; not an Exception, because apps and strategies catch those."""


class CapturingGrid(Grid):
    """Keeps the first message of each kind; `answer` is asked where a strategy wants its first arrays of a client."""

    def __init__(self, answer: Callable[[Message], Message]) -> None:
        self.taken: dict[str, Message] = {}
        self.is_done = threading.Event()
        self._answer = answer
        self._nodes = NODES_FIRST
        self._trained: set[int] = set()
        self._replies: dict[str, Message] = {}
        # The strategies of older apps send from a thread for each client.
        self._lock = threading.Lock()

    def set_run(self, run: Run) -> None:
        """There is one run only."""

    @property
    def run(self) -> Run:
        """Run number 1."""
        return Run.create_empty(1)

    def create_message(self, content: RecordDict, message_type: str, *where: Any, **rest: Any) -> Message:
        """As any grid of Flower makes it."""
        named = dict(zip(("dst_node_id", "group_id", "ttl"), where, strict=False))
        return Message(content, message_type=message_type, **named, **rest)

    def get_node_ids(self) -> Iterable[int]:
        """Numbers from 1, and more of them each time."""
        with self._lock:
            nodes, self._nodes = self._nodes, min(NODES_MAX, 2 * self._nodes)
        return range(1, nodes + 1)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Take them down, and have a reply to each."""
        replies = [self._take(message) for message in messages]
        with self._lock:
            numbers = [f"message-{len(self._replies) + i}" for i in range(len(replies))]
            self._replies |= dict(zip(numbers, replies, strict=True))
        return numbers

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The replies."""
        with self._lock:
            return [self._replies[number] for number in message_ids]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Take them down, and give a reply to each."""
        del timeout
        return [self._take(message) for message in messages]

    def _take(self, message: Message) -> Message:
        kind, node = message.metadata.message_type.partition(".")[0], message.metadata.dst_node_id
        # Nothing is trained for it: the older strategies start from what a client would start from.
        if kind == GET_PARAMETERS:
            return self._answer(message)
        with self._lock:
            self.taken.setdefault(kind, message)
            is_repeated = node in self._trained
            self._trained.add(node)
        # What evaluates comes after what trains, and an app that only asks has said all by its first query.
        if kind != "train" or is_repeated:
            self.is_done.set()
            raise AllTaken
        return _echo(message)


@dataclass(slots=True)
class Opened:
    """What the ServerApp would send first, by kind, and its own evaluation of a model where it has one."""

    messages: dict[str, Message] = field(default_factory=dict)
    central: Central | None = None
    error: BaseException | None = None


def run_server(app: ServerApp, context: Context, *, answer: Callable[[Message], Message]) -> Opened:
    """Run the ServerApp until its first messages are known. Nothing is trained, and no strategy runs on."""
    grid, opened = CapturingGrid(answer), Opened()
    _keep_central(opened)
    # A thread, because what an older strategy's own threads raise reaches nobody.
    thread = threading.Thread(target=_run, args=(app, grid), kwargs={"context": context, "opened": opened}, daemon=True)
    thread.start()
    while thread.is_alive() and not grid.is_done.is_set():
        thread.join(0.02)
    opened.messages = dict(grid.taken)
    return opened


def _run(app: ServerApp, grid: Grid, *, context: Context, opened: Opened) -> None:
    try:
        app(grid, context)
    except AllTaken:
        pass
    except BaseException as error:  # noqa: BLE001
        opened.error = error


def _keep_central(opened: Opened) -> None:
    """Keep the ServerApp's own evaluation instead of calling it: its data lie with the evaluator, not on devices."""
    start = Strategy.start

    def start_without(self: Strategy, *args: Any, evaluate_fn: Central | None = None, **rest: Any) -> Any:
        # The seventh of its parameters, where somebody gave it by position.
        opened.central = args[6] if len(args) > 6 else evaluate_fn
        return start(self, *args[:6], **rest)

    Strategy.start = start_without


def _echo(message: Message) -> Message:
    """As a client replies that has one example and changed nothing: enough to see what comes next."""
    # Copies, because older strategies empty the records that they read.
    arrays = {
        name: ArrayRecord(dict(record)) for name, record in message.content.items() if isinstance(record, ArrayRecord)
    }
    if "fitins.parameters" not in arrays:
        return Message(RecordDict({**arrays, "metrics": MetricRecord({"num-examples": 1})}), reply_to=message)
    content = {
        "fitres.parameters": arrays["fitins.parameters"],
        "fitres.num_examples": MetricRecord({"num_examples": 1}),
        "fitres.metrics": ConfigRecord({}),
        "fitres.status": ConfigRecord({"code": 0, "message": ""}),
    }
    return Message(RecordDict(content), reply_to=message)
