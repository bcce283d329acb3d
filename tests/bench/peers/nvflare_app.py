"""NVFlare's simulator with its client API, whose clients train nothing; run by the peer's own interpreter.

    python nvflare_app.py PARAMETERS CLIENTS ROUNDS      one JSON object at the end

Without PARAMETERS it is the clients' script: each notes when it got a model.
"""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict
from pathlib import Path

import numpy as np

NOTES = "received.txt"


def client() -> None:
    """Return the model as it came, in float32, plus a constant."""
    import nvflare.client as flare

    notes = Path(sys.argv[2])
    flare.init()
    while flare.is_running() and (message := flare.receive()) is not None:
        with notes.open("a") as told:
            told.write(f"{message.current_round} {time.monotonic()}\n")
        [(name, model)] = message.params.items()
        flare.send(flare.FLModel(params={name: model + np.float32(0.001)}, metrics={"accuracy": 0.0}))


def main() -> None:
    """Two rounds more than asked: the clock runs from the first model of the second to the first of the last."""
    from nvflare.app_common.np.recipes import NumpyFedAvgRecipe
    from nvflare.recipe.sim_env import SimEnv

    parameters, clients, rounds = (int(word) for word in sys.argv[1:4])
    notes = Path.cwd() / NOTES
    recipe = NumpyFedAvgRecipe(
        name="peer",
        model=np.zeros(parameters, np.float32),
        min_clients=clients,
        num_rounds=rounds + 2,
        train_script=__file__,
        train_args=f"--client {notes}",
    )
    recipe.execute(SimEnv(num_clients=clients, num_threads=2, workspace_root=str(Path.cwd() / "workspace")))
    received = defaultdict(list)
    for line in notes.read_text().splitlines():
        number, at_s = line.split()
        received[int(number)].append(float(at_s))
    seconds = min(received[rounds + 1]) - min(received[1])
    print(json.dumps({"updates": clients * rounds, "seconds": seconds}))  # noqa: T201


if __name__ == "__main__":
    client() if sys.argv[1] == "--client" else main()
