"""A thousand devices that train a small network: fedlog's fleet, Flower's engine, and APPFL's simulator."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from tests.bench import peer
from tests.bench.measures.whole_loop import Loop, run
from tests.bench.row import Bench, Row, figure, median, ratios
from tests.bench.rows.demo import write_shares
from tests.learners import initial

NAME = "crowd"
DEVICES = 1_000
PARAMETERS = 2_410
# A version takes a tenth of the devices, as a round of APPFL's does; one of Flower's takes all of them.
VERSIONS = 100
PEERS: Mapping[str, tuple[str, int]] = {
    "flower engine": ("flower_app.py", VERSIONS // 10),
    # It collects Python's garbage at every call, over all that its clients hold by then: its first rounds are its best.
    "appfl simulator": ("appfl_app.py", VERSIONS // 10),
}


def make_network() -> nn.Module:
    """One layer of 32 between the pixels and the ten digits."""
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


LOOP = Loop(
    parameters=PARAMETERS,
    codec="int8",
    devices=DEVICES,
    updates_per_round=DEVICES // 10,
    model=f"{__name__}:{make_network.__name__}",
    sections={"training": {"epochs": 5, "batch_size": 8, "learning_rate": 0.5}},
)


def rows(bench: Bench) -> Iterator[Row]:
    """Trainings that were aggregated a second; each peer in turn with fedlog."""
    versions = 4 if bench.quick else VERSIONS
    path = write_shares(bench.folder, DEVICES, start=initial(LOOP.rules)[1])
    for name, (script, rounds) in PEERS.items():
        ours: list[float] = []
        theirs: list[float] = []
        cpu_ms: list[float] = []
        for _ in range(bench.runs):
            found = run(bench, LOOP, versions=versions)
            ours.append(found.updates_per_s)
            cpu_ms.append(1000 * found.cpu_s / found.admitted)
            if name in bench.peers:
                told = peer.run(script, str(path), str(DEVICES), str(rounds))
                theirs.append(float(told["updates"]) / float(told["seconds"]))
        more: dict[str, Any] = {"peer_updates_per_s": median(theirs)} if theirs else {}
        yield Row(
            name=NAME,
            params=PARAMETERS,
            codec="int8",
            updates_per_s=median(ours),
            cpu_ms_per_update=figure(median(cpu_ms)),
            peer=name if theirs else "",
            **(ratios(ours, theirs) if theirs else {}),
            more=more,
        )
        if bench.quick:
            return
