"""The server's side: it waits for nodes, and asks some of them."""

from flwr.app import ConfigRecord, Context, Message, MessageType, RecordDict
from flwr.serverapp import Grid, ServerApp

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """As in Flower's example."""
    nodes = []
    while len(nodes) < 20:
        nodes = list(grid.get_node_ids())
    content = RecordDict({"config": ConfigRecord({"bins": context.run_config["bins"]})})
    replies = grid.send_and_receive([Message(content, node, MessageType.QUERY) for node in nodes[:5]])
    raise AssertionError(f"nobody replied, and here is {replies}")
