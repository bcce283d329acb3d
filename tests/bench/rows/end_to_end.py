"""The whole loop (lease, train nothing, compress, submit, aggregate, publish, download) beside other systems."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from tests.bench import peer
from tests.bench.row import Bench, Row, median, ratios
from tests.bench.whole_loop import Found, Loop, run

NAME = "end_to_end"
AIM = 10.0
CODECS = ("float32", "int8")
DEVICES = {2_410: 200, 100_000: 50, 1_000_000: 20}
SECONDS = 15.0
# Devices and rounds of the peers: the engine as ours; the others start processes for each, and take what is left.
PEERS = {
    "flower engine": ("flower_app.py", None, 5),
    "flower deployment": ("flower_deployment.py", 4, 2),
    "nvflare simulator": ("nvflare_app.py", 8, 4),
}


def rows(bench: Bench) -> Iterator[Row]:
    """Each repetition runs everything once, ours and the peers by turns; a row a size, codec and peer."""
    for parameters, devices in list(DEVICES.items())[: 1 if bench.quick else None]:
        ours: defaultdict[str, list[Found]] = defaultdict(list)
        theirs: defaultdict[str, list[float]] = defaultdict(list)
        count = 10 if bench.quick else devices
        for _ in range(bench.runs):
            for codec in CODECS:
                loop = Loop(parameters=parameters, codec=codec, devices=count, updates_per_round=count // 2)
                ours[codec].append(run(bench, loop, seconds=2.0 if bench.quick else SECONDS))
            for name in bench.peers:
                script, nodes, rounds = PEERS[name]
                theirs[name].append(peer.updates_per_s(script, parameters, nodes=nodes or count, rounds=rounds))
        for codec in CODECS:
            for name in bench.peers or ("",):
                yield _row(parameters, codec, found=ours[codec], peer=name, theirs=theirs[name])


def _row(parameters: int, codec: str, *, found: list[Found], peer: str, theirs: list[float]) -> Row:
    rates = [each.updates_per_s for each in found]
    return Row(
        name=NAME,
        params=parameters,
        codec=codec,
        updates_per_s=median(rates),
        cpu_ms_per_update=median([1000 * each.cpu_s / each.admitted for each in found]),
        mb_per_s=median([each.bytes / each.seconds / 1e6 for each in found]),
        peer=peer,
        **(ratios(rates, theirs) if theirs else {}),
        more={"peer_updates_per_s": median(theirs)} if theirs else {},
    )
