"""The page: how soon it is painted, how soon it shows what is new, what a hundred open ones cost, and who survives."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import numpy as np
import psutil

from schemas.events import VersionEvaluated
from schemas.topics import EVALUATIONS
from streams.kafka.log import KafkaLog
from streams.kafka.settings import KafkaSettings
from streams.log import Draft
from tests.bench.measures.page import CHROMIUM
from tests.bench.measures.trusting import PARTITION, TASK
from tests.bench.row import Bench, Row, figure, median
from tests.bench.rows.history import PAST, child_words, fedlog, fedlog_words, make_environment, run
from tests.trials.results import ROOT
from tests.worlds.builders import scored

NAME = "page"
DECISIONS, QUICK_DECISIONS = 1_000_000, 4_000
EVENTS_PER_S, PACED_DECISIONS, QUICK_PACED_DECISIONS = 500, 20_000, 6_000
PAGES, READERS = 100, 5
# One alone may not have so many streams open.
SUBJECTS = 2
IDLE_S = 10.0
AIMS = {"paint_ms": 200, "weight_kb": 150, "p95_ms": 1_000, "cpu_share": 0.3, "missed": 0}
PAINTING, WATCHING = "tests.bench.measures.page.painting", "tests.bench.measures.page.watching"
# Playwright is no dependency: `make bench` puts it there, as `make page` does.
BROWSER = ROOT / "build" / "page" / "python"

Versions = list[tuple[int, int]]


class Server:
    """`fedlog serve` in a process of its own; killed and started again it has the same port."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment, self.port = environment, 0
        self.tokens = [self._make_token(f"bench-{number}") for number in range(SUBJECTS)]
        self.start()

    @property
    def url(self) -> str:
        """The page of the task."""
        return f"http://127.0.0.1:{self.port}/tasks/{TASK}"

    @property
    def cpu_s(self) -> float:
        """What this life has taken so far."""
        times = psutil.Process(self._child.pid).cpu_times()
        return float(times.user + times.system)

    @property
    def position(self) -> str:
        """Where its history stands."""
        return str(self.ask("/api/v1/position").json()["position"])

    def _make_token(self, subject: str) -> str:
        words = ("token", "create", "--role", "operator", "--subject", subject)
        return str(fedlog(self._environment, *words)[0]).strip()

    def ask(self, path: str) -> httpx2.Response:
        """One answer."""
        address = f"http://127.0.0.1:{self.port}{path}"
        return httpx2.get(address, headers={"Authorization": f"Bearer {self.tokens[0]}"}, timeout=60)

    def start(self) -> None:
        """Start it, and wait until it listens."""
        words = fedlog_words("serve", "--port", str(self.port))
        self._child = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=self._environment, cwd=ROOT)
        assert self._child.stdout is not None
        self.port = urlsplit(self._child.stdout.readline().strip()).port or 0

    def kill(self) -> None:
        """SIGKILL."""
        self._child.kill()
        self._child.wait()
        assert self._child.stdout is not None
        self._child.stdout.close()

    def share(self, seconds: float) -> float:
        """Of a core, over so long."""
        began_s, before_s = time.monotonic(), self.cpu_s
        time.sleep(seconds)
        return (self.cpu_s - before_s) / (time.monotonic() - began_s)


def rows(bench: Bench) -> Iterator[Row]:
    """Rows of two kinds, which `more` names: paint, and open."""
    # Said at once, or somebody would wait for a million decisions first.
    if not Path(CHROMIUM).is_file():
        raise FileNotFoundError(f"{CHROMIUM} is missing: apt-get install chromium")
    yield _paint(bench)
    yield _open(bench)


def is_kept(aim: str, value: float) -> bool:
    """Whether a figure is as good as its aim."""
    return value <= AIMS[aim]


def _paint(bench: Bench) -> Row:
    """The page of a task with a long past, in a browser that was never there, at a position that nobody asked for."""
    size = QUICK_DECISIONS if bench.quick else DECISIONS
    told = json.loads(run(PAST, "tell", bench.folder / "long", size))
    kafka = bench.kafka("page-long")
    _create(kafka)
    run(PAST, "carry", json.dumps(asdict(kafka)), told["folder"], 0)
    with _served(kafka, bench.folder / "serving-long") as (server, _), _browser(server) as ask:
        _until_shown(server)
        ask("look")
        visits = []
        for number in range(max(5, 2 * bench.runs)):
            # What is in memory of the last visit must not count for this one.
            _move(kafka, number)
            time.sleep(1.0)
            visits.append(ask("look"))
    paints, filled = ([visit[name] for visit in visits] for name in ("paint_ms", "filled_ms"))
    return _row(
        "paint",
        decisions=told["decisions"],
        visits=len(visits),
        paint_ms=median(paints),
        least_ms=figure(min(paints)),
        most_ms=figure(max(paints)),
        filled_ms=median(filled),
        weight_kb=median([visit["weight_kb"] for visit in visits]),
        requests=visits[-1]["requests"],
    )


def _open(bench: Bench) -> Row:
    """A task that goes on under a hundred open pages, one of them in a browser; the server is killed in the midst."""
    size = QUICK_PACED_DECISIONS if bench.quick else PACED_DECISIONS
    [line] = run(PAST, "tell", bench.folder / "paced", size, "--inputs-per-commit", 5).splitlines()
    kafka, told = bench.kafka("page-paced"), json.loads(line)
    _create(kafka)
    settings = json.dumps(asdict(kafka))
    with ExitStack() as stack:
        server, environment = stack.enter_context(_served(kafka, bench.folder / "serving-paced"))
        carrying = subprocess.Popen(
            child_words(PAST, "carry", settings, told["folder"], EVENTS_PER_S), cwd=ROOT, stdout=subprocess.DEVNULL
        )
        stack.callback(carrying.kill)
        _until_shown(server, is_moving=True)
        ask = stack.enter_context(_browser(server))
        ask("stay")
        watching = stack.enter_context(_watching(server))
        # Only what is new from here on was waited for by anybody.
        began_ms, busy_s = time.time_ns() // 1_000_000, told["decisions"] / EVENTS_PER_S
        cpu_share = server.share(busy_s)
        killed_ms = time.time_ns() // 1_000_000
        server.kill()
        time.sleep(1.0)
        server.start()
        assert carrying.wait(600) == 0
        time.sleep(5.0)
        idle_share = server.share(IDLE_S)
        seen, shown = json.loads(watching.communicate("")[0]), ask("tell")
        sql = f"SELECT version, at_ms FROM facts.model_published WHERE task = '{TASK}' ORDER BY version"
        versions = [(int(version), int(at_ms)) for version, at_ms in _query(environment, sql)]
        [[events]] = _query(environment, "SELECT count(*) FROM events")
    judged = [(version, at_ms) for version, at_ms in versions if began_ms < at_ms < killed_ms - 2_000]
    ends = [page[-1][1] for page in [*seen["noted"], shown["noted"]]]
    late = sum(end != versions[-1][0] for end in ends)
    untold = sum(int(events) - count for count in seen["events"])
    return _row(
        "open",
        pages=PAGES,
        events_per_s=EVENTS_PER_S,
        versions=len(judged),
        **_judge(shown["noted"], seen["noted"], versions=judged),
        cpu_share=figure(cpu_share),
        idle_share=figure(idle_share),
        comebacks=sum(seen["comebacks"]),
        # An open page misses something where it does not come to show the newest, a program where an event is not told.
        missed=late + untold + seen["doubled"],
        reloads=seen["refreshes"] + (not shown["is_same"]),
    )


def _judge(browser: list[list[int]], streams: list[list[list[int]]], *, versions: Versions) -> dict[str, float]:
    p50, p95 = np.percentile([*_find_waits(browser, versions)], (50, 95))
    stream = [wait for page in streams for wait in _find_waits(page, versions)]
    waits = {"p50_ms": p50, "p95_ms": p95, "stream_p95_ms": np.percentile(stream, 95)}
    return {name: figure(float(wait)) for name, wait in waits.items()}


def _find_waits(page: list[list[int]], versions: Versions) -> Iterator[int]:
    """How long each version took until it, or a later one, stood on a page."""
    for version, at_ms in versions:
        found = next((noted_ms for noted_ms, shown in page if shown >= version), None)
        if found is not None:
            yield found - at_ms


@contextmanager
def _served(kafka: KafkaSettings, folder: Path) -> Iterator[tuple[Server, dict[str, str]]]:
    """A server beside whoever keeps the history, as beside a run."""
    environment = make_environment(kafka, folder)
    with (folder / "history.log").open("w") as log:
        words = fedlog_words("history", "sync", "--follow")
        keeping = subprocess.Popen(words, env=environment, cwd=ROOT, stdout=log, stderr=log)
        server = Server(environment)
        try:
            yield server, environment
        finally:
            server.kill()
            keeping.send_signal(signal.SIGTERM)
            keeping.wait(60)


@contextmanager
def _browser(server: Server) -> Iterator[Any]:
    """Answers of a browser to one word each."""
    environment = {**os.environ, "PYTHONPATH": str(BROWSER)}
    words = child_words(PAINTING, server.url, server.tokens[0])
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(words, cwd=ROOT, env=environment, text=True, **pipes) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        given, answers = child.stdin, child.stdout

        def ask(word: str) -> Any:
            given.write(word + "\n")
            given.flush()
            return json.loads(answers.readline())

        yield ask


@contextmanager
def _watching(server: Server) -> Iterator[subprocess.Popen[str]]:
    # Whoever reads every event begins before the first.
    begin = f"{server.position.partition(':')[0]}:0"
    words = child_words(WATCHING, "127.0.0.1", server.port, ",".join(server.tokens), TASK, PAGES - 1, READERS, begin)
    with subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        yield child


def _until_shown(server: Server, *, is_moving: bool = False) -> None:
    """Wait until the page answers; and, unless things go on, until the history stands still."""
    give_up_s, before = time.monotonic() + 900, ""
    while time.monotonic() < give_up_s:
        with suppress(httpx2.TransportError):
            if server.ask(f"/tasks/{TASK}").status_code == 200:
                now = server.position
                if is_moving or now == before:
                    return
                before = now
        time.sleep(1.0)
    raise TimeoutError(server.url)


def _move(kafka: KafkaSettings, number: int) -> None:
    told = VersionEvaluated(task=TASK, version=1, metrics={"accuracy": 0.5}, samples=number + 1, cohort="")
    with closing(KafkaLog(kafka)) as log:
        log.append([Draft(topic=EVALUATIONS.name, partition=PARTITION, value=scored(told))])


def _query(environment: dict[str, str], sql: str) -> list[list[str]]:
    return [line.split(",") for line in fedlog(environment, "query", sql, "--csv")[0].splitlines()[1:]]


def _create(kafka: KafkaSettings) -> None:
    run(PAST, "create", json.dumps(asdict(kafka)))


def _row(what: str, **more: Any) -> Row:
    return Row(name=NAME, params=0, more={"what": what, **more})
