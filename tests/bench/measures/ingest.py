"""What an update costs the aggregator: its own CPU time, over topics that were filled beforehand.

    python -m tests.bench.measures.ingest                      every row, on an embedded Kafka of its own
    python -m tests.bench.measures.ingest --parameters 1000000 --codec int8 --updates 300 --record

The real actor takes the updates in a process of its own; CPU time of all threads counts. Beside it,
in the same process and on the same records, stands the floor: the fetch alone, and the arithmetic in plain numpy.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zstandard
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec.structs import replace

from actors.deciders.arithmetic import sums
from actors.effects.aggregator import effects as aggregation
from actors.effects.aggregator import summation
from actors.hosts.assembly import assemble
from actors.hosts.worker import MEASURERS
from actors.runtime.actor import Actor
from actors.runtime.answers import Answers
from ops.processes import broker
from schemas.canonical import decode
from schemas.devices import is_signed_by_device, tag_public_key
from schemas.events import UpdateSubmitted
from schemas.leases import open_lease, sign_lease
from schemas.policy import Policy
from schemas.signing import parse_signed
from schemas.tensors import clipping, encode_update
from schemas.topics import CATALOGUE, TASKS, UPDATES, body_place
from streams.bodies import BodyReader, store
from streams.kafka.log import KafkaLog
from streams.kafka.settings import KafkaSettings
from streams.kafka.writer import KafkaWriter
from streams.log import Draft, TopicPartition
from tests.bench.machine import peak_mb
from tests.places import home_of
from tests.root import ROOT
from tests.trials.results import add_row
from tests.worlds.builders import create_task, lease, lease_id, policy, role_key, signed, trust, update_submitted

TASK = "ingest"
SIGNER = role_key("selector").signer
PARTITION = home_of(TASK)
SIZES = (2_410, 100_000, 1_000_000)
CODECS = ("int8", "int4", "float16", "float32", "topk")
INLINE_BYTES_MAX = 16_384
WARM = 20  # updates that are taken before the clock starts


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One row of the table."""

    parameters: int
    codec: str
    updates: int
    updates_per_round: int = 0  # 0: a round that never fills, because releases are not what is measured here
    shards: int = 1
    rule: str = "mean"

    @property
    def rules(self) -> Policy:
        """The policy; every update trained on version 0, and none is too stale."""
        many = self.updates + WARM + 1
        plain = policy(
            # Long enough for the slowest machine to write what it then takes.
            selection={"devices_expected": many, "concurrency": many, "lease_s": 86_400.0},
            aggregation={"updates_per_round": self.updates_per_round or many, "rule": self.rule},
            **({} if self.rule == "mean" else {"robust": {"attackers_max": self.updates_per_round // 5}}),
            clipping={"norm": 1.0},
            compression={"codec": self.codec},
            staleness={"max_versions": 10_000},
            retention={"models_kept": 10_001},
            stop={"versions_max": 10_000_000},
        )
        return plain if self.shards == 1 else replace(plain, shards=self.shards)


def fill(log: KafkaLog, case: Case) -> None:
    """Create the task, and append an update of each of as many devices."""
    log.create_topics(CATALOGUE)
    rng = np.random.default_rng(1)
    task = create_task(log, case.rules, task=TASK, model=rng.standard_normal(case.parameters, np.float32))
    scale = np.float32(1 / np.sqrt(case.parameters))
    made = [encode_update(rng.standard_normal(case.parameters, np.float32) * scale, case.rules) for _ in range(4)]
    key = Ed25519PrivateKey.generate()
    public, deadline_ms = tag_public_key(key), round(1000 * time.time()) + case.rules.lease_ms
    drafts = []
    for number in range(case.updates + WARM):
        held = lease(f"device-{number}", of=task, lease=lease_id(number), public_key=public, deadline_ms=deadline_ms)
        body = made[number % len(made)]
        inline = len(body) <= INLINE_BYTES_MAX
        at = TopicPartition(*body_place(TASK, held.device, shards=case.shards, partitions=log.partitions))
        sent = body if inline else store(log, at, data=body, upload_id=f"{number}", codec=case.codec)
        update = update_submitted(sign_lease(held, SIGNER), sent, codec=case.codec, task=TASK)
        drafts.append(Draft(topic=UPDATES.name, partition=PARTITION, value=signed(update, key)))
    log.append(drafts)


# --- the child: the aggregator, then the floor ----------------------------------------------------------------------


class Stages:
    """CPU time a stage, each without the stages that it calls; what runs in no Python thread is not in it."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._inner = threading.local()

    def watch(self, owner: Any, name: str, stage: str) -> None:
        """Count what this function takes from now on."""
        call = getattr(owner, name)

        @functools.wraps(call)
        def watched(*args: Any, **kwargs: Any) -> Any:
            outer = getattr(self._inner, "seconds", 0.0)
            self._inner.seconds, began = 0.0, time.thread_time()
            try:
                return call(*args, **kwargs)
            finally:
                took = time.thread_time() - began
                self.seconds[stage] += took - self._inner.seconds
                self._inner.seconds = outer + took

        setattr(owner, name, watched)


def take(settings: KafkaSettings, case: Case) -> dict[str, Any]:
    """Run the actor over everything; milliseconds of CPU an update, all threads, and the share of each stage."""
    log, stages = KafkaLog(settings), Stages()
    for owner, name, stage in _WATCHED:
        stages.watch(owner, name, stage)
    actor = assemble("aggregator", PARTITION, log=log, key=role_key("aggregator"))
    actor.use_threads(ThreadPoolExecutor(MEASURERS))
    actor.open()
    places = [TopicPartition(topic, PARTITION) for topic in (TASKS.name, UPDATES.name)]
    reader = log.reader(dict.fromkeys(places, 0))
    while not actor.state.tasks:
        actor.handle([record for record in reader.poll(1.0) if record.topic == TASKS.name])
    reader.seek(places[1], 0)
    _until(actor, reader, WARM, most=WARM)
    stages.seconds.clear()
    began_s, cpu_s = time.monotonic(), time.process_time()
    _until(actor, reader, WARM + case.updates)
    actor._effects._intake.settle()
    cpu_s, wall_s = time.process_time() - cpu_s, time.monotonic() - began_s
    shares = {stage: 1000 * seconds / case.updates for stage, seconds in stages.seconds.items()}
    shares["others"] = 1000 * cpu_s / case.updates - sum(shares.values())
    return {
        "cpu_ms": 1000 * cpu_s / case.updates,
        "wall_ms": 1000 * wall_s / case.updates,
        "peak_mb": peak_mb(),
        "stages_ms": {stage: round(ms, 3) for stage, ms in shares.items()},
    }


def _until(actor: Actor[Any], reader: Any, updates: int, *, most: int | None = None) -> None:
    while actor.find_expected(UPDATES.name) < updates:
        records = [record for record in reader.poll(1.0) if record.topic == UPDATES.name]
        actor.handle(records[: most or len(records)])
        actor.work()
        if most and len(records) > most:
            reader.seek(TopicPartition(UPDATES.name, PARTITION), actor.find_expected(UPDATES.name))


_WATCHED: tuple[tuple[Any, str, str], ...] = (
    (Actor, "handle", "actor"),
    (aggregation, "verify_update", "seal and signature"),
    (BodyReader, "fetch", "fetch"),
    (BodyReader, "_join", "digest"),
    (summation, "read_update", "decode"),
    (clipping, "clip_scale", "norm"),
    (sums.RunningSum, "add", "add"),
    (KafkaWriter, "commit", "journal"),
    (Answers, "send", "answers"),
)


def floor(settings: KafkaSettings, case: Case) -> dict[str, float]:
    """Milliseconds of CPU an update: the fetch alone, and verify, sha256, zstd, norm and add in numpy.

    Bodies are read twice, and none is kept: memory that is touched for the first time costs more than arithmetic.
    """
    log = KafkaLog(settings)
    updates = [record.value or b"" for record in _read(log, UPDATES.name, case)]
    topic = _bodies_topic(updates)
    began_s = time.process_time()
    for _ in _read(log, topic, case):
        pass
    fetch_s = time.process_time() - began_s
    total, numpy_s = np.zeros(case.parameters, np.int64), 0.0
    coming, chunks = _read(log, topic, case), dict[int, bytes]()
    for number, update in enumerate(updates):
        offsets = decode(parse_signed(update).payload, UpdateSubmitted).body.offsets
        while not set(offsets) <= chunks.keys():
            record = next(coming)
            chunks[record.offset] = record.value or b""
        began_s = time.thread_time()
        _arithmetic(update, chunks, case, total=total)
        numpy_s += time.thread_time() - began_s if number >= WARM else 0.0
        for offset in offsets:
            del chunks[offset]
    return {
        "body_bytes": decode(parse_signed(updates[0]).payload, UpdateSubmitted).body.size,
        "fetch_ms": 1000 * fetch_s / (case.updates + WARM),
        "numpy_ms": 1000 * numpy_s / case.updates,
    }


def _bodies_topic(updates: list[bytes]) -> str:
    return decode(parse_signed(updates[0]).payload, UpdateSubmitted).body.topic


def _read(log: KafkaLog, topic: str, case: Case) -> Iterator[Any]:
    at = TopicPartition(topic, PARTITION)
    end = log.bounds(at).end
    reader = log.bulk_reader({at: 0})
    while reader.position(at) < end:
        yield from reader.poll(1.0)


def _arithmetic(update: bytes, chunks: dict[int, bytes], case: Case, *, total: Any) -> None:
    message = parse_signed(update)
    submitted = decode(message.payload, UpdateSubmitted)
    lease = open_lease(submitted.sealed, trust(), at_ms=0)
    assert lease is not None
    assert is_signed_by_device(message, lease.public_key)
    data = submitted.inline or b"".join(chunks[offset] for offset in submitted.body.offsets)
    assert hashlib.sha256(data).digest() == submitted.body.sha256
    payload = zstandard.ZstdDecompressor().decompress(data)
    place: Any = slice(None)
    match case.codec:
        case "float32" | "float16":
            written = np.frombuffer(payload, {"float32": "<f4", "float16": "<f2"}[case.codec])
            values: Any = np.empty(written.size, "i4")
            for first in range(0, written.size, 1 << 16):  # what fits into the cache: a floor takes no detours
                part = slice(first, first + (1 << 16))
                values[part] = np.rint(written[part].astype("f4") * np.float32(65536))
        case "int8":
            values = np.frombuffer(payload, "i1")[-case.parameters :]
        case "int4":
            folded = np.frombuffer(payload, "i1")[-((case.parameters + 1) // 2) :]
            values = np.concatenate([folded << np.int8(4) >> np.int8(4), folded >> np.int8(4)])[: case.parameters]
        case _:
            kept = (len(payload) - 4) // 5
            place = np.cumsum(np.frombuffer(payload, "<u4", kept, offset=4))
            values = np.frombuffer(payload, "i1")[-kept:]
    floats = values.astype("f4")
    assert np.dot(floats, floats) > 0
    total[place] += values


# --- the parent -----------------------------------------------------------------------------------------------------


def measure(case: Case, kafka: KafkaSettings) -> dict[str, Any]:
    """Fill topics of their own on this broker, and measure in a fresh process."""
    settings = filled(case, kafka)
    command = [sys.executable, "-m", "tests.bench.measures.ingest", *words(case, settings)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def filled(case: Case, kafka: KafkaSettings) -> KafkaSettings:
    """Topics of their own on this broker, with all that the case wants in them."""
    settings = KafkaSettings(**asdict(kafka) | {"topic_prefix": f"ingest-{uuid.uuid4().hex[:8]}"})
    log = KafkaLog(settings)
    try:
        fill(log, case)
    finally:
        log.close()
    return settings


def words(case: Case, settings: KafkaSettings) -> list[str]:
    """The case and its topics as options of a child."""
    options = {name.replace("_", "-"): str(value) for name, value in asdict(case).items()}
    place = ["--child", json.dumps(asdict(settings))]
    return [*place, *(word for name, value in options.items() for word in (f"--{name}", value))]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parameters", type=int, nargs="*", default=SIZES)
    parser.add_argument("--codec", nargs="*", default=CODECS)
    parser.add_argument("--updates", type=int, default=200)
    parser.add_argument("--updates-per-round", type=int, default=0, help="0: more than there are")
    parser.add_argument("--shards", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--rule", default="mean", help=argparse.SUPPRESS)
    parser.add_argument("--record", action="store_true", help="add the rows to docs/results/ingest.jsonl")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Measure each case in turn, and print a line of JSON for it."""
    asked = _arguments()
    cases = [
        Case(
            parameters=p,
            codec=codec,
            updates=asked.updates,
            updates_per_round=asked.updates_per_round,
            shards=asked.shards,
            rule=asked.rule,
        )
        for p in asked.parameters
        for codec in asked.codec
    ]
    if asked.child:
        settings = KafkaSettings(**json.loads(asked.child))
        found = take(settings, cases[0])
        # After, because it holds all bodies in memory at once.
        beside = floor(settings, cases[0]) if cases[0].shards == 1 else {}
        sys.stdout.write(json.dumps(found | beside) + "\n")
        return
    with tempfile.TemporaryDirectory() as folder, broker.run_embedded(Path(folder)) as handle:
        for case in cases:
            row = {**asdict(case), **measure(case, KafkaSettings(**handle.connection))}
            sys.stdout.write(json.dumps(row) + "\n")
            if asked.record:
                add_row("ingest", row)


if __name__ == "__main__":
    main()
