"""The gateway under raw devices that train nothing: what an update costs, beside Flower's SuperLink; and under fire."""

from __future__ import annotations

import asyncio
import hashlib
import json
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from schemas.creations import find_creation
from schemas.events import TaskCreated
from schemas.policy import Policy
from schemas.topics import TASKS
from streams.bodies import store
from streams.log import Draft, TopicPartition, scan
from tests.bench import peer
from tests.bench.measures.gateway.crowd import Crowd, Update
from tests.bench.peers import raw_http
from tests.bench.peers.raw_http import Connection
from tests.bench.row import Bench, Row, figure, median, ratios
from tests.places import home_of
from tests.trials.results import ROOT
from tests.worlds.builders import policy
from tests.worlds.gateway.process import GatewayProcess, running
from tests.worlds.stage import Stage, staged

NAME = "gateway"
PEER = "flower superlink"
PEERS = (PEER,)
TASK = "bench"
AT = TopicPartition("bodies", home_of(TASK))
# How many updates, ours and the peer's, at each size.
SIZES = {2_410: (3_000, 400), 100_000: (800, 120), 1_000_000: (160, 40)}
CODECS = ("int8", "float32")
IDLE_PART, FIRE_PART = "idle", "fire"
PARTS = (*map(str, SIZES), IDLE_PART, FIRE_PART)
CONNECTIONS = 32
WARM = 40
HANDED = "hand in"
IDLE = (10, 1_000, 10_000)
CONSIDERED_S = 20.0
HONEST_SHARE = 0.05
# An honest device that has not been answered by then has got nothing.
PATIENCE_S = 10.0
AIMS = {"per_core_s": 1_500, "plain_share": 1.5, "ratio": 3.0, "rss_growth": 0.1, "goodput": 0.9}
HOSTILE, FLOOR = "tests.bench.measures.gateway.hostile", "tests.bench.measures.gateway.floor"


@dataclass(slots=True)
class Scene:
    """A gateway before a task of its own."""

    stage: Stage
    gateway: GatewayProcess
    created: TaskCreated
    made: int = 0

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.gateway.url.rpartition(":")[2])

    def crowd(self, *, wait_s: int = 0) -> Crowd:
        """Devices that wait so long for their outcome."""
        return Crowd(self.created, self.stage.role_key("selector"), self.port, wait_s)

    def prepare(self, count: int, *, wait_s: int = 0) -> tuple[Crowd, list[Update]]:
        """So many updates that nobody has handed in."""
        crowd = self.crowd(wait_s=wait_s)
        self.made += count
        return crowd, crowd.prepare(range(self.made - count, self.made))

    def hand_in(self, count: int, *, wait_s: int = 0) -> dict[str, float]:
        """Updates a second, the gateway's CPU for each, and how long each took."""
        crowd, updates = self.prepare(count, wait_s=wait_s)
        before_s = raw_http.read_cpu_s(self.gateway.pid)
        working = raw_http.work_through(updates, self.port, crowd.hand_in, connections=CONNECTIONS)
        seconds, took = asyncio.run(working)
        cpu_ms = 1000 * (raw_http.read_cpu_s(self.gateway.pid) - before_s) / count
        return {"updates_per_s": count / seconds, "cpu_ms": cpu_ms, **raw_http.tell_latency(took)}


def rows(bench: Bench) -> Iterator[Row]:
    """Rows of three kinds, which `more` names: updates handed in, idle connections, and hostile traffic."""
    raw_http.allow_connections()
    capacity = 0.0
    for parameters in [size for size in SIZES if bench.part in ("", str(size))][: 1 if bench.quick else None]:
        for codec in CODECS[: 1 if bench.quick else None]:
            row = _hand_in(bench, parameters, codec)
            capacity = capacity or float(row.updates_per_s or 0)
            yield row
    if bench.part in ("", IDLE_PART):
        yield _idle(bench)
    if bench.part in ("", FIRE_PART):
        yield _under_fire(bench, capacity or _find_capacity(bench))


def name_part(row: dict[str, Any]) -> tuple[Any, ...]:
    """What tells the rows of one part from those of the others, in what was recorded."""
    return row["more"]["what"], row["params"] if row["more"]["what"] == HANDED else 0


def _find_capacity(bench: Bench) -> float:
    """Updates a second of the smallest size, measured now: that of another day is that of another machine."""
    with opened(bench, min(SIZES), CODECS[0]) as scene:
        return scene.hand_in(100 if bench.quick else SIZES[min(SIZES)][0])["updates_per_s"]


def make_rules(codec: str) -> Policy:
    """A round that never fills, because releases are not what is measured here."""
    many = 100_000
    return policy(
        selection={"devices_expected": many, "concurrency": many, "lease_s": 86_400.0},
        aggregation={"updates_per_round": many},
        clipping={"norm": 1.0},
        compression={"codec": codec},
    )


@contextmanager
def opened(bench: Bench, parameters: int, codec: str) -> Iterator[Scene]:
    """A stage, a gateway, and a few updates that have warmed it up."""
    name = f"gateway-{uuid.uuid4().hex[:8]}"
    folder = bench.folder / name
    folder.mkdir()
    with staged(bench.kafka(name), folder) as stage:
        stage.create_task(TASK, make_rules(codec), parameters=parameters)
        operator = stage.key.public_key
        created = find_creation(
            scan(stage.log, TopicPartition(TASKS.name, home_of(TASK))),
            TASK,
            operator=operator,
            partitions=stage.log.partitions,
            deployment=stage.deployment,
        )
        assert created is not None
        with running([*stage.options, "--operator-public-key", operator.hex()], folder) as gateway:
            scene = Scene(stage, gateway, created)
            scene.hand_in(WARM)
            yield scene


def _hand_in(bench: Bench, parameters: int, codec: str) -> Row:
    ours, peers = (100, 0) if bench.quick else SIZES[parameters]
    accepted, decided, plain, rss, theirs = list[Any](), list[Any](), list[float](), list[Any](), list[Any]()
    floor, signed = list[float](), list[float]()
    for _ in range(bench.runs):
        with opened(bench, parameters, codec) as scene:
            before_mb = raw_http.read_rss_mb(scene.gateway.pid)
            accepted.append(scene.hand_in(ours))
            decided.append(_decide(scene, ours))
            rss.append((before_mb, raw_http.read_rss_mb(scene.gateway.pid)))
            plain.append(_append_plainly(scene, ours))
            floor.append(_serve_barely(scene, ours))
            signed.append(_serve_barely(scene, ours, is_signed=True))
        if peers and PEER in bench.peers:
            words = (str(parameters), codec, "20", str(peers), str(CONNECTIONS))
            theirs.append(peer.run("flower_superlink.py", *words, environment="flower-apps"))
    rates = [each["updates_per_s"] for each in accepted]
    cpu_ms = [each["cpu_ms"] for each in accepted]
    of_plain = {"plain": cpu_ms, "floor": floor, "signed": signed}
    beside = _tell_peer(theirs) if theirs else {}
    against = ratios(rates, [each["updates"] / each["seconds"] for each in theirs]) if theirs else {}
    return Row(
        name=NAME,
        params=parameters,
        codec=codec,
        updates_per_s=median(rates),
        cpu_ms_per_update=median(cpu_ms),
        peer=PEER if theirs else "",
        **against,
        more={
            "what": HANDED,
            "updates": ours,
            **{name: median([each[name] for each in accepted]) for name in ("p50_ms", "p99_ms")},
            "per_core_s": figure(1000 / median(cpu_ms)),
            "plain_ms": median(plain),
            **{f"{name}_share": _compare(ms, plain) for name, ms in of_plain.items()},
            "floor_ms": median(floor),
            "signed_ms": median(signed),
            **{f"decided_{name}": median([each[name] for each in decided]) for name in decided[0]},
            "before_mb": median([before for before, _ in rss]),
            "after_mb": median([after for _, after in rss]),
            **beside,
        },
    )


def _decide(scene: Scene, count: int) -> dict[str, float]:
    """The same with an aggregator, until each outcome is known; its CPU beside the gateway's."""
    [worker] = scene.stage.start("aggregator")
    # What was handed in before is decided first.
    scene.hand_in(1, wait_s=25)
    child = worker.child()
    assert child is not None
    before_s = sum(child.cpu_times()[:2])
    told = scene.hand_in(count, wait_s=25)
    told["aggregator_ms"] = 1000 * (sum(child.cpu_times()[:2]) - before_s) / count
    return told


def _append_plainly(scene: Scene, count: int) -> float:
    """CPU ms of this process for a digest and an append of the same bytes, one after the other."""
    _, [update] = scene.prepare(1)
    log, place = scene.stage.log, TopicPartition("updates", home_of(TASK))
    began_s = time.process_time()
    for number in range(count):
        if update.headers:
            store(log, AT, data=update.data, upload_id=f"plain/{number}", codec="int8")
        else:
            hashlib.sha256(update.data).digest()
            log.append([Draft(topic=place.topic, partition=place.partition, value=update.data)])
    return 1000 * (time.process_time() - began_s) / count


def _compare(ms: Sequence[float], plain: Sequence[float]) -> float:
    return median([one / other for one, other in zip(ms, plain, strict=True)])


def _serve_barely(scene: Scene, count: int, *, is_signed: bool = False) -> float:
    """CPU ms of the barest server that the same clients hand the same in to, beside the same log."""
    crowd, updates = scene.prepare(count + WARM)
    words = [sys.executable, "-m", FLOOR, json.dumps(asdict(scene.stage.kafka)), str(AT.partition), str(int(is_signed))]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            port = int(child.stdout.readline())
            for those in (updates[:WARM], updates[WARM:]):
                before_s = raw_http.read_cpu_s(child.pid)
                asyncio.run(raw_http.work_through(those, port, crowd.hand_in, connections=CONNECTIONS))
            return 1000 * (raw_http.read_cpu_s(child.pid) - before_s) / count
        finally:
            child.kill()


def _tell_peer(theirs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    names = ("cpu_ms", "p50_ms", "p99_ms", "requests_each", "before_mb", "rss_mb")
    rate = median([each["updates"] / each["seconds"] for each in theirs])
    idle = {f"peer_idle_{count}_mb": mb for count, mb in theirs[-1]["idle_mb"].items()}
    return {"peer_updates_per_s": rate, **{f"peer_{n}": median([x[n] for x in theirs]) for n in names}, **idle}


def _idle(bench: Bench) -> Row:
    """Memory against connections that have asked once and then stay."""
    with opened(bench, 2_410, "int8") as scene:
        before_mb = raw_http.read_rss_mb(scene.gateway.pid)
        counts = IDLE[:2] if bench.quick else IDLE
        held = asyncio.run(raw_http.measure_idle(scene.port, scene.gateway.pid, counts, "/healthz"))
    return Row(name=NAME, params=2_410, more={"what": "idle", "before_mb": before_mb, **held})


def _under_fire(bench: Bench, capacity: float) -> Row:
    """Honest devices at a twentieth of what the gateway can take, alone and beside strangers who never rest."""
    seconds = 3.0 if bench.quick else CONSIDERED_S
    with opened(bench, 2_410, "int8") as scene:
        alone = asyncio.run(_ask_honestly(scene, HONEST_SHARE * capacity, seconds))
        before_mb = raw_http.read_rss_mb(scene.gateway.pid)
        with _attacked(scene, bench.folder, seconds + 2) as attack:
            told = asyncio.run(_ask_honestly(scene, HONEST_SHARE * capacity, seconds))
            answers: dict[str, int] = json.loads(attack.communicate(timeout=120)[0].splitlines()[-1])
        after_mb = raw_http.read_rss_mb(scene.gateway.pid)
        assert psutil.pid_exists(scene.gateway.pid)
    hostile_per_s = sum(answers.values()) / (seconds + 2)
    return Row(
        name=NAME,
        params=2_410,
        codec="int8",
        more={
            "what": "under fire",
            "capacity_per_s": figure(capacity),
            "hostile_per_s": figure(hostile_per_s),
            "hostile_share": figure(hostile_per_s / capacity),
            **told,
            **{f"alone_{name}": value for name, value in alone.items()},
            "before_mb": before_mb,
            "after_mb": after_mb,
            "answers": answers,
        },
    )


@contextmanager
def _attacked(scene: Scene, folder: Path, seconds: float) -> Iterator[subprocess.Popen[str]]:
    crowd, updates = scene.prepare(20)
    # What has been taken, so that a copy of it is nothing new.
    asyncio.run(raw_http.work_through(updates, scene.port, crowd.hand_in, connections=1))
    spec = folder / "taken.txt"
    spec.write_text("\n".join(crowd.write(update, update.data).hex() for update in updates))
    words = [sys.executable, "-m", HOSTILE, str(scene.port), str(seconds), str(spec)]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            # Until all of them are at it.
            time.sleep(2.0)
            yield child
        finally:
            child.kill()


async def _ask_honestly(scene: Scene, per_s: float, seconds: float) -> dict[str, float]:
    """Devices that come when they come, whatever became of the last; how many of them were served, and how soon."""
    crowd, updates = scene.prepare(max(1, round(per_s * seconds)))
    took: list[float] = []
    loop = asyncio.get_running_loop()
    began_s = loop.time()

    async def ask(number: int, update: Update) -> None:
        await asyncio.sleep(began_s + number / per_s - loop.time())
        asked_s = loop.time()
        try:
            async with asyncio.timeout(PATIENCE_S):
                connection = Connection(scene.port, source=f"127.0.1.{number % 200 + 1}")
                await crowd.hand_in(connection, update)
                await connection.close()
        except Exception:  # noqa: BLE001
            return
        took.append(loop.time() - asked_s)

    await asyncio.gather(*(ask(number, update) for number, update in enumerate(updates)))
    goodput = figure(len(took) / len(updates))
    return {"asked": len(updates), "goodput": goodput, **raw_http.tell_latency(took or [PATIENCE_S])}
