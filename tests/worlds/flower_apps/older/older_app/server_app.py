"""The server's side: a strategy without first parameters asks a client for them."""

from flwr.common import Context
from flwr.server import ServerApp, ServerAppComponents, ServerConfig
from flwr.server.strategy import FedAvg


def configure(server_round: int):
    """Settings of a round."""
    return {"lr": 0.5, "current_round": server_round}


def server_fn(context: Context) -> ServerAppComponents:
    """As in Flower's older examples."""
    strategy = FedAvg(fraction_fit=0.5, min_available_clients=4, on_fit_config_fn=configure)
    return ServerAppComponents(
        strategy=strategy, config=ServerConfig(num_rounds=context.run_config["num-server-rounds"])
    )


app = ServerApp(server_fn=server_fn)
