"""The history as tables: how fast it is built, how soon an event is in it, how fast it answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from ops.settings import Settings
from streams.kafka.settings import KafkaSettings
from tests.bench.measures.trusting import TASK
from tests.bench.row import Bench, Row, figure, median
from tests.trials.results import ROOT
from tests.worlds.builders import KEY

NAME = "history"
SIZES, QUICK_SIZES = (100_000, 1_000_000, 2_000_000), (2_000, 4_000, 6_000)  # decisions; the last has the updates asked
EVENTS_PER_S, PACED_DECISIONS = 500, 10_000
AIMS = {"decisions_per_s": 20_000, "p99_ms": 1_000, "ratio": 50, "seconds": 0.5, "memory": 1.3}
MORE_IS_BETTER = {"decisions_per_s", "ratio"}
PAST, MEASURE = "tests.bench.measures.history.past", "tests.bench.measures.history.tables"
COMMANDS = {
    "task list": ("task", "list", "--json"),
    "task show": ("task", "show", TASK, "--json"),
    "model list": ("model", "list", "--task", TASK, "--json"),
}
# The same question of `updates` in SQL, and over the lines that `fedlog events --json` prints.
SQL = {
    "outcomes": "SELECT outcome, count(*) FROM updates GROUP BY 1 ORDER BY 1",
    "busiest devices": "SELECT device, count(*) AS n, sum(staleness)::BIGINT FROM updates WHERE outcome = 'admitted' "
    "GROUP BY 1 ORDER BY n DESC, device LIMIT 10",
    "weights by staleness": "SELECT staleness, count(*), sum(weight)::BIGINT FROM updates WHERE outcome = 'admitted' "
    "GROUP BY 1 ORDER BY 1",
}


def rows(bench: Bench) -> Iterator[Row]:
    """Rows of four kinds, which `more` names: build, wait, ask, console."""
    sizes = QUICK_SIZES if bench.quick else SIZES
    told = [json.loads(line) for line in run(PAST, "tell", bench.folder / "past", *sizes).splitlines()]
    for one in told[:2]:
        yield _build(one, bench.folder / f"{one['decisions']}.duckdb")
    yield _wait(bench)
    yield from _console(bench, told[1])
    yield from _ask(bench, told[2])


def is_kept(aim: str, value: float) -> bool:
    """Whether a figure is as good as its aim."""
    return value >= AIMS[aim] if aim in MORE_IS_BETTER else value <= AIMS[aim]


def _build(told: dict[str, Any], file: Path) -> Row:
    found = json.loads(run(MEASURE, "build", told["folder"], file))
    rate = figure(told["decisions"] / found["cpu_s"])
    return _row("build", decisions=told["decisions"], updates=told["updates"], decisions_per_s=rate, **_round(found))


def _wait(bench: Bench) -> Row:
    """A worker that commits a few inputs at a time, and a reader beside it."""
    size = 1_000 if bench.quick else PACED_DECISIONS
    [line] = run(PAST, "tell", bench.folder / "paced", size, "--inputs-per-commit", 5).splitlines()
    settings = json.dumps(asdict(bench.kafka("past-paced")))
    run(PAST, "create", settings)
    told = json.loads(line)
    command = [MEASURE, "follow", settings, bench.folder / "paced.duckdb", told["updates"]]
    with subprocess.Popen(child_words(*command), stdout=subprocess.PIPE, text=True, cwd=ROOT) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "ready\n"
        run(PAST, "carry", settings, told["folder"], EVENTS_PER_S)
        found = json.loads(reader.stdout.read())
    return _row("wait", events_per_s=EVENTS_PER_S, **_round(found))


def _console(bench: Bench, told: dict[str, Any]) -> Iterator[Row]:
    """Whole commands, from the shell's point of view: with the history at hand, and by folding the log."""
    kafka = bench.kafka("past")
    settings = json.dumps(asdict(kafka))
    run(PAST, "create", settings)
    run(PAST, "carry", settings, told["folder"], 0)
    with_history, without = bench.folder / "with", bench.folder / "without"
    environments = {folder: make_environment(kafka, folder) for folder in (with_history, without)}
    fedlog(environments[with_history], "history", "sync")
    for name, words in COMMANDS.items():
        seconds = []
        for _ in range(bench.runs):
            told_by_tables, took_s = fedlog(environments[with_history], *words)
            seconds.append(took_s)
        told_by_fold, fold_s = fedlog(environments[without], *words)
        assert told_by_tables == told_by_fold, name
        yield _row("console", command=name, decisions=told["decisions"], seconds=median(seconds), fold_s=figure(fold_s))


def _ask(bench: Bench, told: dict[str, Any]) -> Iterator[Row]:
    """`fedlog query` beside one pass of `fedlog events --json` through Python, which answers all the questions."""
    file, folder = bench.folder / "asked.duckdb", bench.folder / "asking"
    _build(told, file)
    environment = {**os.environ, **Settings(folder=folder, operator_public_key=KEY.public_key.hex()).make_environment()}
    words = fedlog_words("events", "--json", "--topic", "rounds", "--from-files", told["folder"])
    began_s = time.monotonic()
    with subprocess.Popen(words, stdout=subprocess.PIPE, env=environment, cwd=ROOT) as events:
        assert events.stdout is not None
        expected = _answer(events.stdout)
    events_s = time.monotonic() - began_s
    for name, sql in SQL.items():
        asked = [fedlog(environment, "query", sql, "--csv", "--file", str(file)) for _ in range(bench.runs)]
        found = [line.split(",") for line in asked[0][0].splitlines()[1:]]
        assert found == expected[name], (name, found, expected[name])
        seconds = median([took_s for _, took_s in asked])
        yield _row(
            "ask",
            question=name,
            updates=told["updates"],
            seconds=seconds,
            events_s=figure(events_s),
            ratio=figure(events_s / seconds),
        )


def _answer(lines: Iterable[bytes]) -> dict[str, list[list[str]]]:
    """The answers to SQL's questions, as text."""
    outcomes, devices = Counter[str](), defaultdict[str, list[int]](list)
    weights = defaultdict[int, list[int]](list)
    for line in lines:
        event = json.loads(line)
        values = event["values"]
        if event["event"] == "UpdateRefused":
            outcomes[values["reason"]] += 1
        if event["event"] == "UpdateAdmitted":
            outcomes["admitted"] += 1
            devices[values["device"]].append(values["staleness"])
            weights[values["staleness"]].append(values["weight"])
    busiest = sorted(devices.items(), key=lambda item: (-len(item[1]), item[0]))[:10]
    found: dict[str, list[tuple[Any, ...]]] = {
        "outcomes": sorted(outcomes.items()),
        "busiest devices": [(device, len(stale), sum(stale)) for device, stale in busiest],
        "weights by staleness": [(stale, len(all_of), sum(all_of)) for stale, all_of in sorted(weights.items())],
    }
    return {name: [[str(value) for value in row] for row in rows] for name, rows in found.items()}


def make_environment(kafka: KafkaSettings, folder: Path) -> dict[str, str]:
    """That of somebody with the operator's key, whose history lies in `folder`."""
    folder.mkdir(mode=0o700)
    (folder / "operator.key").touch(mode=0o600)
    (folder / "operator.key").write_text(bytes(range(32)).hex())
    known = {field.name for field in fields(Settings)}
    given = {name: value for name, value in asdict(kafka).items() if name in known and value is not None}
    return Settings(folder=folder, operator_key_file=folder / "operator.key", **given).make_environment()


def fedlog(environment: dict[str, str], *words: str) -> tuple[str, float]:
    """What one command says, and how long it takes."""
    began_s = time.monotonic()
    done = subprocess.run(fedlog_words(*words), check=True, capture_output=True, text=True, env=environment, cwd=ROOT)
    return done.stdout, time.monotonic() - began_s


def fedlog_words(*words: str) -> list[str]:
    """The command line of `fedlog`."""
    return [sys.executable, "-m", "ops.terminal.cli", *words]


def child_words(module: str, *words: object) -> list[str]:
    """The command line of a child of the bench."""
    return [sys.executable, "-m", module, *map(str, words)]


def run(module: str, *words: object) -> str:
    """What a child of the bench says."""
    return subprocess.run(child_words(module, *words), check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT).stdout


def _round(found: dict[str, float]) -> dict[str, float]:
    return {name: value if isinstance(value, int) else figure(value) for name, value in found.items()}


def _row(what: str, **more: Any) -> Row:
    return Row(name=NAME, params=0, more={"what": what, **more})
