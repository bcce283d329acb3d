"""Recovery: seconds from SIGKILL to the first new decision, against the length of the journal (`make recovery`).

For each length: fill the selector's journal, start `fedlog worker selector`, and let check-ins trickle in. Then by
turns kill its process, which its supervisor starts again (`child`), and supervisor and process at once, as a dying
machine does, with another instance started at that moment, which has to wait for the session timeout (`supervisor`).
`open` is the part of both that replay takes. Each length and kind becomes a row of docs/results/recovery.jsonl.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from actors.hosts.faust_app import SESSION_TIMEOUT_S
from ops.processes import broker
from schemas.journal import Batch, WriterClaimed, open_record
from schemas.topics import SELECTIONS
from streams.kafka.reader import KafkaReader
from streams.kafka.settings import KafkaSettings
from streams.log import TopicPartition
from tests.trials.recovery.long_journal import PARTITION, TASK, fill
from tests.worlds.federation import ScriptedDevice
from tests.worlds.stage import ROOT, Stage, Worker, say, staged

RESULTS = ROOT / "docs" / "results" / "recovery.jsonl"
KINDS = ("supervisor", "child")  # in this order a supervisor is new when its child dies, and so is its back-off
EVERY_S = 0.05
JOURNAL = TopicPartition(SELECTIONS.name, PARTITION)


@dataclass(slots=True)
class Watch:
    """Reads the journal from its present end: who writes it, and what."""

    reader: KafkaReader
    claim: int = -1

    def until_decided(self, *, after_claim: int, timeout_s: float) -> int:
        """Wait for a decision under a claim that is newer than `after_claim`; return that claim."""
        give_up = time.monotonic() + timeout_s
        while time.monotonic() < give_up:
            for found in self.reader.poll(EVERY_S):
                record: Any = open_record(found.value or b"")
                match record:
                    case WriterClaimed():
                        self.claim = found.offset
                    case Batch() if record.decisions and record.claim > after_claim:
                        return record.claim
        raise TimeoutError(f"no decision within {timeout_s:g} s")


@dataclass(slots=True)
class Trial:
    """One journal, one worker at a time, and what was measured."""

    stage: Stage
    worker: Worker
    watch: Watch
    decisions: int
    seconds: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    @property
    def timeout_s(self) -> float:
        return 60.0 + self.decisions / 2_000

    def kill(self, kind: str) -> None:
        """One death, and the time until somebody decides again."""
        claim = self.watch.claim
        child = self.worker.child()
        assert child is not None
        began_s = time.monotonic()
        if kind == "child":
            child.kill()
        else:
            self.worker.kill()
            [self.worker] = self.stage.start("selector")
        self.watch.until_decided(after_claim=claim, timeout_s=self.timeout_s)
        self.seconds[kind].append(time.monotonic() - began_s)
        say(f"  {self.decisions:,} decisions, {kind}: {self.seconds[kind][-1]:.2f} s")

    def openings(self) -> list[dict[str, Any]]:
        """What the workers told about opening the long partition, the first time left out."""
        told = [opening for worker in self.stage.workers for opening in worker.openings]
        return [opening for opening in told if opening["partition"] == PARTITION][1:]

    def rows(self) -> Iterator[dict[str, Any]]:
        """A row for each kind of death, and one for the opening alone."""
        openings = self.openings()
        replayed = statistics.median(line["decisions"] for line in openings)
        for kind, seconds in {**self.seconds, "open": [line["seconds"] for line in openings]}.items():
            yield {
                "at": datetime.now(UTC).isoformat(timespec="seconds"),
                "commit": _commit(),
                "actor": "selector",
                "decisions": self.decisions,
                "kind": kind,
                "runs": len(seconds),
                "median_s": round(statistics.median(seconds), 3),
                "worst_s": round(max(seconds), 3),
                "session_timeout_s": SESSION_TIMEOUT_S,
                "snapshots": True,  # rows without are of a time when every opening folded the whole journal
                "replayed_decisions": int(replayed),
                "snapshot_used": all(line["snapshot"] is not None for line in openings),
            }


def measure(
    kafka: KafkaSettings, folder: Path, *, decisions: int, runs: int, kinds: Sequence[str] = KINDS
) -> list[dict[str, Any]]:
    """Fill a journal, kill `runs` times in each way, by turns, and return the rows."""
    with staged(kafka, folder) as stage, contextlib.ExitStack() as ends:
        began_s = time.monotonic()
        fill(stage, decisions)
        say(f"{decisions:,} decisions written in {time.monotonic() - began_s:.0f} s")
        end = stage.log.bounds(JOURNAL).end  # the last batch may become visible only after this
        watch = Watch(stage.log.reader({JOURNAL: end}))
        ends.callback(watch.reader.close)
        ends.enter_context(_trickle(stage))
        trial = Trial(stage, stage.start("selector")[0], watch, decisions)
        watch.until_decided(after_claim=end - 1, timeout_s=trial.timeout_s)
        for _ in range(runs):
            for kind in kinds:
                trial.kill(kind)
        return list(trial.rows())


@contextlib.contextmanager
def _trickle(stage: Stage) -> Iterator[None]:
    """A check-in every 50 ms that is always declined, hence always decided."""
    device, ending = ScriptedDevice("probe", stage.log, task=TASK, deployment=stage.deployment), threading.Event()

    def run() -> None:
        while not ending.wait(EVERY_S):
            device.check_in(samples=0)

    thread = threading.Thread(target=run, name="trickle")
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()


def _commit() -> str:
    asked = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(asked, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def main(arguments: Sequence[str]) -> None:
    """Measure each length on a broker of its own, and add the rows to the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--decisions", default="1000,10000,100000,1000000", help="lengths, with commas")
    parser.add_argument("--runs", type=int, default=5, help="deaths of each kind")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="fedlog-recovery-") as name, broker.run_embedded(Path(name)) as running:
        for length in map(int, options.decisions.split(",")):
            kafka = KafkaSettings(**running.connection, topic_prefix=f"long-{length}")
            folder = Path(name) / kafka.topic_prefix
            folder.mkdir()
            rows = measure(kafka, folder, decisions=length, runs=options.runs)
            with RESULTS.open("a") as results:
                results.writelines(json.dumps(row) + "\n" for row in rows)
            for row in rows:
                say(json.dumps(row))


if __name__ == "__main__":
    main(sys.argv[1:])
