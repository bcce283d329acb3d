"""The whole loop (lease, train nothing, compress, submit, aggregate, publish, download) beside other systems."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace

from tests.bench import machine, peer
from tests.bench.measures.arithmetic import floor_ms
from tests.bench.measures.whole_loop import Found, Loop, run
from tests.bench.row import Bench, Row, figure, median, ratios

NAME = "end_to_end"
AIM = 10.0
CODECS = ("float32", "int8")
DEVICES = {2_410: 200, 100_000: 50, 1_000_000: 50}
SECONDS = 15.0
# Devices and rounds of the peers: the engine as ours; the others start processes for each, and take what is left.
PEERS = {
    "flower engine": ("flower_app.py", None, 5),
    "flower deployment": ("flower_deployment.py", 4, 2),
    "nvflare simulator": ("nvflare_app.py", 8, 2),
}


def rows(bench: Bench) -> Iterator[Row]:
    """Each repetition runs everything once, ours and the peers by turns; a row a size, codec and peer."""
    for parameters, devices in list(DEVICES.items())[: 1 if bench.quick else None]:
        ours: defaultdict[str, list[Found]] = defaultdict(list)
        theirs: defaultdict[str, list[float]] = defaultdict(list)
        floors: defaultdict[str, list[float]] = defaultdict(list)
        count = 10 if bench.quick else devices
        for _ in range(bench.runs):
            for codec in CODECS:
                loop = Loop(parameters=parameters, codec=codec, devices=count, updates_per_round=count // 2)
                ours[codec].append(run(bench, loop, seconds=2.0 if bench.quick else SECONDS))
                floors[codec].append(floor_ms(loop))
            for name in bench.peers:
                script, nodes, rounds = PEERS[name]
                theirs[name].append(peer.updates_per_s(script, parameters, nodes=nodes or count, rounds=rounds))
        for codec in CODECS:
            for name in bench.peers or ("",):
                beside = replace(_row(parameters, codec, found=ours[codec], floors=floors[codec]), peer=name)
                yield _against(beside, ours[codec], theirs[name]) if name else beside


def _row(parameters: int, codec: str, *, found: list[Found], floors: list[float]) -> Row:
    cpu_ms = [1000 * each.cpu_s / each.admitted for each in found]
    return Row(
        name=NAME,
        params=parameters,
        codec=codec,
        updates_per_s=median([each.updates_per_s for each in found]),
        cpu_ms_per_update=median(cpu_ms),
        mb_per_s=median([each.bytes / each.seconds / 1e6 for each in found]),
        share_of_floor=median([floor / cpu for floor, cpu in zip(floors, cpu_ms, strict=True)]),
        more={"floor_ms": median(floors)},
    )


def _against(row: Row, found: list[Found], theirs: list[float]) -> Row:
    """Beside a peer: its rate, and what an update would have to cost for the aim, on all cores of this machine."""
    aim_ms = 1000 * machine.told()["cores"] / (AIM * statistics.median(theirs))
    more = {**row.more, "peer_updates_per_s": median(theirs), "aim_ms": figure(aim_ms)}
    return replace(row, **ratios([each.updates_per_s for each in found], theirs), more=more)
