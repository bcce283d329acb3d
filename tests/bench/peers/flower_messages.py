"""A ServerApp that sends messages and waits; `flower_superlink.py` runs it, and answers them."""

from __future__ import annotations

import os
import time
from pathlib import Path

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

PATIENCE_S = 600.0

server = ServerApp()
# An app has one; nobody runs it.
client = ClientApp()


@server.main()
def main(grid: Grid, context: Context) -> None:
    """Send each node as many messages as it will answer; then stay, because a run that is over takes no replies."""
    nodes, updates = int(os.environ["PEER_NODES"]), int(os.environ["PEER_ROUNDS"])
    while len(ids := list(grid.get_node_ids())) < nodes:
        time.sleep(0.2)
    for _ in range(updates // nodes):
        grid.push_messages([Message(RecordDict(), dst_node_id=node, message_type="train") for node in ids])
    Path(os.environ["PEER_REPORT"]).write_text("pushed")
    time.sleep(PATIENCE_S)
