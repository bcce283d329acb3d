"""`make chaos`: run the cells that have no clean result yet, on brokers of their own, and keep a row of each."""

from __future__ import annotations

import argparse
import multiprocessing
import signal
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path
from typing import Any

from ops.console import say
from ops.processes import broker
from streams.kafka.settings import KafkaSettings
from tests.trials.chaos import experiment, results
from tests.trials.chaos.points import Cell, matrix

RELEASED_CELLS = 5


def main() -> None:
    """Run what is left of the matrix, and show all of it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as on Ctrl-C, brokers and workers end first
    wanted = _arguments()
    cells = [cell for cell in matrix() if wanted.only in f"{cell}"]
    done = set() if wanted.again else results.clean()
    left = [cell for cell in cells if str(cell) not in done]
    say(f"{len(cells)} cells, {len(left)} to run")
    if left:
        _run(left, lanes=wanted.lanes, folder=wanted.folder)
    say(results.table())
    sys.exit(any(str(cell) not in results.clean() for cell in cells))


def _arguments() -> Any:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--only", default="", help="cells with this in their name, actor:point:fault:workers")
    parser.add_argument("--again", action="store_true", help="cells with a clean result too")
    parser.add_argument("--folder", type=Path, help="keep the logs of workers and brokers there")
    parser.add_argument("--lanes", type=int, default=2, help="how many cells run at a time, each on its own broker")
    return parser.parse_args()


def _run(cells: list[Cell], *, lanes: int, folder: Path | None) -> None:
    """Series after series on each lane, which has a broker to itself: some cells kill it."""
    series = [some for _, group in groupby(cells, key=lambda cell: cell.series) for some in _divide([*group])]
    work: Any = multiprocessing.SimpleQueue()
    with tempfile.TemporaryDirectory(prefix="fedlog-chaos-") as scratch, ExitStack() as ending:
        for number in range(lanes):
            lane = (folder or Path(scratch)).resolve() / f"lane-{number}"
            ending.enter_context(broker.run_embedded(lane / "broker"))
            process = multiprocessing.Process(target=_work, args=(lane, work))
            process.start()
            ending.callback(process.join)
            ending.callback(process.terminate)
        for some in [*series, *[None] * lanes]:
            work.put(some)
        for process in multiprocessing.active_children():
            process.join()


def _divide(cells: list[Cell]) -> Iterator[list[Cell]]:
    """By stages: where versions are rolled out a world is full of steps soon, and to judge it takes minutes."""
    size = RELEASED_CELLS if cells[0].is_released else len(cells)
    yield from (cells[start : start + size] for start in range(0, len(cells), size))


def _work(lane: Path, work: Any) -> None:
    while cells := work.get():
        _play(cells, lane)


def _play(cells: list[Cell], lane: Path) -> None:
    """One series; where a cell fails the rest starts on a new stage."""
    while cells:
        name = f"{'-'.join(map(str, cells[0].series))}-{uuid.uuid4().hex[:8]}"
        kafka = KafkaSettings(**broker.start(lane / "broker").connection, topic_prefix=name)
        played = set()
        for cell, outcome in experiment.run(cells, kafka, broker_folder=lane / "broker", folder=lane / name):
            say(results.keep(cell, outcome))
            played.add(cell)
        # Without any row not even the first version came about: the first cell is passed over, and stays to be run.
        cells = [cell for cell in cells if cell not in played][not played :]


if __name__ == "__main__":
    main()
