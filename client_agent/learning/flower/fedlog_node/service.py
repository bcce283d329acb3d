"""What each request asks of an app: its first messages, a call of its ClientApp, its server's own score of a model."""

from __future__ import annotations

import logging
from typing import Any

from flwr.app import Array, ArrayRecord, Message, RecordDict

from .client_calls import App, AppError, address, encode_records, make_request, read_arrays, read_reply, seed_all
from .first_messages import Central, run_server


class Service:
    """Answers requests about one app."""

    def __init__(self, request: dict[str, Any]) -> None:
        # Flower tells each of its steps; what went wrong is in the answers.
        logging.getLogger("flwr").setLevel(logging.WARNING)
        self._app = App(request["app"], request["run_config"])
        self._central: Central | None = None

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """What a request asks for."""
        asked = {"open": self._open, "call": self._call, "score": self._score}
        return asked[request["do"]](request)

    def _open(self, request: dict[str, Any]) -> dict[str, Any]:
        """The first messages of the ServerApp."""
        node, app, server = request["node"], self._app, self._app.load("serverapp")

        def answer(message: Message) -> Message:
            return app.call(address(message.content, message.metadata.message_type, node=node), app.make_context(node))

        seed_all(request["seed"])
        opened = run_server(server, app.make_context(node), answer=answer)
        if not opened.messages:
            raise opened.error or AppError("the ServerApp ended without a message to any node")
        self._central = opened.central
        told = {kind: _describe(message) for kind, message in opened.messages.items()}
        return {"messages": told, "has_central": opened.central is not None}

    def _call(self, request: dict[str, Any]) -> dict[str, Any]:
        """The ClientApp's reply to a message, and the node's state after it."""
        node, app = request["node"], self._app
        seed_all(request["seed"])
        context, content = app.make_context(node), make_request(request)
        reply = read_reply(app.call(address(content, request["kind"], node=node), context))
        return {**reply, "state": encode_records(context.state) if context.state else b""}

    def _score(self, request: dict[str, Any]) -> dict[str, Any]:
        """The ServerApp's own evaluation of a model."""
        if self._central is None:
            raise AppError("the ServerApp has no evaluation of its own")
        record = ArrayRecord({name: Array(array) for name, array in request["arrays"].items()})
        return {"metrics": dict(self._central(request["round"], record) or {})}


def _describe(message: Message) -> dict[str, Any]:
    """A message as its arrays, and the rest of it."""
    empty = {
        name: ArrayRecord({}) if isinstance(record, ArrayRecord) else record for name, record in message.content.items()
    }
    return {
        "kind": message.metadata.message_type,
        "arrays": read_arrays(message.content),
        "template": encode_records(RecordDict(empty)),
    }
