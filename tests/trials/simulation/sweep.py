"""One seed, or many on every core: runs them, shrinks what fails, and adds a row to the results."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field, replace
from typing import Any

from tests.trials.results import rows
from tests.trials.simulation.faults import KINDS
from tests.trials.simulation.verdict import Story, Stuck
from tests.trials.simulation.virtual import virtual
from tests.trials.simulation.world import World

KIND = "simulation"  # of the results
STEPS = 160
CHUNK_SEEDS = 20
HANGS_AFTER_S = 20.0  # of CPU time, for one seed


def simulate(seed: int, steps: int = STEPS, *, off: Collection[str] = ()) -> Story:
    """One seed from its first step to its verdict."""
    world = World(seed, steps, off)
    with virtual(random.Random(seed), sleep=world.sleep, clock=world.monotonic), _no_hanging():
        return world.run()


class _no_hanging:  # noqa: N801 - reads as the context manager that it is
    """A loop that no virtual time ends is a fault of the seed, not of the machine."""

    def __enter__(self) -> None:
        signal.signal(signal.SIGVTALRM, _hangs)
        signal.setitimer(signal.ITIMER_VIRTUAL, HANGS_AFTER_S)

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def _hangs(*_: object) -> None:
    raise Stuck("it hangs: a loop that never ends")


@dataclass(frozen=True, slots=True)
class Shrunk:
    """The shortest prefix of a failing seed that still fails, with the fewest kinds of faults."""

    story: Story
    off: tuple[str, ...]

    @property
    def command(self) -> str:
        """What repeats it."""
        off = f' OFF="{",".join(self.off)}"' if self.off else ""
        return f"make sim SEED={self.story.seed} STEPS={self.story.steps}{off}"


def shrunk(story: Story, *, off: Collection[str] = ()) -> Shrunk:
    """Try every shorter prefix, shortest first; then switch off, one by one, the faults that it can do without."""
    steps = next((n for n in range(story.steps) if simulate(story.seed, n, off=off).faults), story.steps)
    needless = list(off)
    for kind in (kind for kind in KINDS if kind not in off):
        if simulate(story.seed, steps, off=[*needless, kind]).faults:
            needless.append(kind)
    return Shrunk(simulate(story.seed, steps, off=needless), tuple(needless))


@dataclass(slots=True)
class Swept:
    """What a sweep saw."""

    first_seed: int
    steps: int = STEPS
    seeds: int = 0
    seconds: float = 0.0
    violations: list[dict[str, Any]] = field(default_factory=list)
    hits: Counter[str] = field(default_factory=Counter)

    def add(self, stories: list[Story]) -> None:
        """A chunk is done."""
        self.seeds += len(stories)
        for story in stories:
            self.hits.update(story.hits)
            if story.faults:
                self.violations.append({"seed": story.seed, "steps": story.steps, "fault": story.faults[0]})

    @property
    def row(self) -> dict[str, Any]:
        """One line of the results."""
        return {
            "first_seed": self.first_seed,
            "seeds": self.seeds,
            "steps": self.steps,
            "seconds": round(self.seconds, 1),
            "seeds_per_minute": round(60 * self.seeds / self.seconds) if self.seconds else 0,
            "violations": self.violations,
            "faults": dict(sorted(self.hits.items())),
        }


def swept(first_seed: int, *, seconds: float, jobs: int = 0, steps: int = STEPS) -> Swept:
    """Run seeds from `first_seed` on, on all cores, for about so many seconds; each chunk that began is finished."""
    found = Swept(first_seed, steps)
    started_s = time.monotonic()
    spawning = multiprocessing.get_context("spawn")
    jobs = jobs or len(os.sched_getaffinity(0))
    chunks = _chunks(first_seed, steps)
    with ProcessPoolExecutor(jobs, mp_context=spawning, initializer=_end_with_the_parent) as pool:
        running: set[Future[list[Story]]] = set()
        try:
            while running or time.monotonic() - started_s < seconds:
                while len(running) < jobs + 1 and time.monotonic() - started_s < seconds:
                    running.add(pool.submit(_chunk, *next(chunks)))
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    found.add(future.result())
        except KeyboardInterrupt:
            # What is under way is finished, so that the seeds that count are those below the next first seed.
            done, _ = wait(running)
            for future in done:
                found.add(future.result())
    found.seconds = time.monotonic() - started_s
    return replace(found, violations=sorted(found.violations, key=lambda violation: violation["seed"]))


def _chunks(first_seed: int, steps: int) -> Iterator[tuple[int, int]]:
    while True:
        yield first_seed, steps
        first_seed += CHUNK_SEEDS


def _chunk(first_seed: int, steps: int) -> list[Story]:
    return [simulate(seed, steps) for seed in range(first_seed, first_seed + CHUNK_SEEDS)]


def _end_with_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def next_seed() -> int:
    """The first seed that no sweep in the results has run."""
    return max((row["first_seed"] + row["seeds"] for row in rows(KIND)), default=1)
