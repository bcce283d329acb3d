"""The page of figures: what it says follows from the rows."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from tests.bench.__main__ import newest
from tests.bench.pages import page
from tests.bench.row import Row, ratios
from tests.bench.rows import ingest

MACHINE = {"cpu": "abacus", "cores": 2, "memory_gb": 8, "system": "Linux 7", "load": 1.5, "python": "3.13"}


def _rows() -> list[Row]:
    """A row or two of each name, all aims kept."""
    mine = {"more": {"floor_ms": 2.0, "wall_ms": 3.0, "stages_ms": {"add": 0.5}}, "share_of_floor": 0.7}
    fast = {"updates_per_s": 400.0, "cpu_ms_per_update": 2.9, "mb_per_s": 1.0, **ratios([400.0], [33.0])}
    told = {"against": "K", "at": 10, "peak_mb": 100.0, "exponent": None}
    grown = [
        Row(
            name="growth",
            params=10,
            cpu_ms_per_update=1.0,
            more={**told, "against": curve, "at": at, "exponent": slope},
        )
        for curve in ("K", "parameters", "devices", "log")
        for at, slope in ((10, None), (100, 0.05))
    ]
    late = {"releases": 100, "p50_ms": 40.0, "p99_ms": 90.0, "max_ms": 95}
    curves = {"curve": [(0.0, 0.5), (9.0, 0.95)], "peer_curve": [(0.0, 0.4), (20.0, 0.92)]}
    goals = {"seconds_to_goal": [9.0], "peer_seconds_to_goal": [None], "updates_per_s": 9.0, "peer_updates_per_s": 8.0}
    parts = {"cpu_ms_of": {"broker": 1.0, "fleet": 1.9}}
    cases = [(size, codec) for size in (2_410, 1_000_000) for codec in ("float32", "int8")]
    flower = {"peer": "flower engine", "more": {"peer_updates_per_s": 33.0, "floor_ms": 1.0, "aim_ms": 6.0}}
    return [
        *(Row(name="ingest", params=size, codec=codec, **fast, **mine) for size, codec in cases),
        *(Row(name="end_to_end", params=size, codec=codec, **fast, **flower) for size, codec in cases),
        *(
            Row(name="latency", params=size, updates_per_s=9.0, more={**late, "private": private})
            for size in (2_410, 1_000_000)
            for private in (False, True)
        ),
        Row(name="noise", params=10, **fast, peer="numba", more={"peer_cpu_ms": 30.0, "rungs": 4}),
        Row(name="replay", params=10, **fast, peer="aggregator", more={"peer_cpu_ms": 3.1, "peak_mb": 90.0}),
        *(
            Row(name="shards", params=10, cpu_ms_per_update=cpu_ms, more={"shards": number, "peak_mb": 90.0, **taken})
            for number, cpu_ms, taken in (
                (1, 3.6, {"shard_cpu_ms": 0.0}),
                (4, 0.9, {"shard_cpu_ms": 3.8, "shard_peak_mb": 99.0}),
            )
        ),
        *(Row(name="tasks", params=10, codec="int8", more=more) for more in _tasks()),
        *_robust(fast),
        *_masking(),
        *grown,
        *(Row(name="history", params=0, more=more) for more in _history()),
        *(Row(name="page", params=0, more=more) for more in _page()),
        *_gateway(fast),
        Row(name="demo", params=650, codec="int8", peer="flower engine", **fast, more={**curves, **goals, **parts}),
        Row(name="crowd", params=2_410, codec="int8", **fast, **flower),
    ]


def _history() -> list[dict[str, Any]]:
    """What the rows of the history tell, of each kind one or two."""
    built = {"cpu_s": 1.0, "wall_s": 1.5, "file_mb": 9.0, "peak_mb": 200.0, "rows": 9, "updates": 5}
    return [
        *({"what": "build", "decisions": count, "decisions_per_s": 3e4, **built} for count in (10, 100)),
        {"what": "wait", "events_per_s": 500, "events": 9, "p50_ms": 200.0, "p99_ms": 400.0, "max_ms": 500},
        {"what": "console", "command": "task list", "decisions": 100, "seconds": 0.4, "fold_s": 9.0},
        {"what": "ask", "question": "outcomes", "updates": 5, "seconds": 0.5, "events_s": 50.0, "ratio": 100.0},
    ]


def _page() -> list[dict[str, Any]]:
    """What the rows of the page tell: one that is painted, and a hundred that are open."""
    paint = {"decisions": 100, "visits": 9, "paint_ms": 90.0, "least_ms": 80, "most_ms": 99, "weight_kb": 120.0}
    times = {"p50_ms": 200.0, "p95_ms": 400.0, "stream_p95_ms": 300.0, "cpu_share": 0.2, "idle_share": 0.1}
    killed = {"comebacks": 100, "missed": 0, "reloads": 0}
    return [
        {"what": "paint", "requests": 5, "filled_ms": 150.0, **paint},
        {"what": "open", "pages": 100, "events_per_s": 10, "versions": 9, **times, **killed},
    ]


def _gateway(fast: dict[str, Any]) -> list[Row]:
    """What the rows of the gateway tell: updates of two sizes, idle connections, and hostile traffic."""
    times = {"p50_ms": 9.0, "p99_ms": 20.0, "per_core_s": 1_600.0, "plain_ms": 2.0, "plain_share": 1.4}
    times |= {"floor_ms": 2.2, "floor_share": 1.1, "signed_ms": 2.4, "signed_share": 1.2}
    times |= {"before_mb": 90.0, "after_mb": 95.0}
    names = ("updates_per_s", "cpu_ms", "aggregator_ms", "p50_ms", "p99_ms")
    times |= {f"decided_{name}": 9.0 for name in names}
    names = ("updates_per_s", "cpu_ms", "p50_ms", "p99_ms", "requests_each", "before_mb", "rss_mb", "idle_10_mb")
    times |= {f"peer_{name}": 9.0 for name in names}
    fire = {"goodput": 1.0, "asked": 9, "p50_ms": 9.0, "p99_ms": 20.0, "capacity_per_s": 900.0, "hostile_per_s": 999.0}
    fire |= {"alone_goodput": 1.0, "alone_p50_ms": 9.0, "alone_p99_ms": 9.0, "before_mb": 90.0, "after_mb": 95.0}
    fire |= {"hostile_share": 1.1, "answers": {"replay: 200": 9}}
    beside = {"codec": "int8", "peer": "flower superlink", **fast}
    return [
        *(
            Row(name="gateway", params=size, **beside, more={"what": "hand in", "updates": 9, **times})
            for size in (2_410, 1_000_000)
        ),
        Row(name="gateway", params=2_410, more={"what": "idle", "before_mb": 90.0, "10": 91.0, "1000": 95.0}),
        Row(name="gateway", params=2_410, more={"what": "under fire", **fire}),
    ]


def _robust(fast: dict[str, Any]) -> list[Row]:
    """What the rows of robust rules tell: a round beside a peer and one alone, and a crowd."""
    told = {"what": "round", "members": 100, "peak_mb": 300.0, "wall_ms": 9.0}
    beside = {"peer_cpu_ms": 20.0, "peer_mb": 900.0}
    return [
        Row(name="robust", params=10, **fast, peer="byzfl numpy", more={**told, "rule": "median", **beside}),
        Row(name="robust", params=10, cpu_ms_per_update=2.0, more={**told, "rule": "krum"}),
        Row(name="robust", params=10, **fast, more={"what": "crowd", "rule": "median", "times": 10, "peak_mb": 90.0}),
    ]


def _masking() -> list[Row]:
    """What the rows of masked sums tell: a round beside a peer and one alone, and a device in two codecs."""
    told = {"device_cpu_ms": 4.0, "helper_cpu_s": 0.1, "server_cpu_s": 0.2, "sum_s": 0.3, "up_bytes": 4e6}
    peer = {f"peer_{name}": 10 * value for name, value in told.items() if name != "helper_cpu_s"}
    ours: dict[str, Any] = {"name": "masking", "codec": "ring32", "cpu_ms_per_update": 4.0}
    plain = {"what": "round", "dropped": 10, **told}
    steps = {"what": "device", "clip_ms": 1.0, "encode_ms": 2.0}
    return [
        Row(params=10, peer="flower secagg+", **ratios([40.0], [4.0]), **ours, more={**plain, **peer}),
        Row(params=100, **ours, more=plain),
        Row(name="masking", params=100, codec="int8", cpu_ms_per_update=3.0, more=steps),
        Row(params=100, **ours, more={**steps, "mask_ms": 3.0}),
        Row(params=100, peer="plain float32", updates_per_s=4.0, **ratios([4.0], [5.0]), **ours, more=_loop()),
    ]


def _loop() -> dict[str, Any]:
    """What a whole loop that is masked tells of itself, and of the plain one beside it."""
    parts, plain = {"broker": 1.0, "helpers": 0.5}, {"broker": 1.0, "helpers": 0.0}
    rates = {"plain_updates_per_s": 5.0, "plain_cpu_ms": 3.0}
    return {"what": "loop", "cpu_ms_of": parts, "plain_cpu_ms_of": plain, **rates}


def _tasks() -> list[dict[str, Any]]:
    """What the rows of many tasks tell: the move, then waits."""
    move = {"moved": {"selector": 2, "aggregator": 2}, "opened_anew": 4, "still_s": 1.5, "still_before_s": 0.9}
    size = {"tasks": 1_000, "workers": 3, "devices": 2_000, "period_s": 32.0, "versions": 3}
    curve = {"curve": [(0, 9.0, 60.0), (2, 11.0, 140.0)], "curve_join_s": 1.0}
    waits = {"decisions": 96, "decisions_per_s": 23.0, "p50_ms": 11.0, "p99_ms": 63.5, "max_ms": 74}
    return [
        {**of, "partitions": partitions}
        for partitions in (8, 64)
        for of in (
            {**size, **move, **curve, "created_s": 20.0, "peak_mb": 114.0},
            *({"when": "steady load", "actor": actor, **waits} for actor in ("selector", "aggregator")),
        )
    ]


def _written(rows: list[Row], monkeypatch: pytest.MonkeyPatch, folder: Path) -> str:
    monkeypatch.setattr(page, "PAGE", folder / "performance.md")
    monkeypatch.setattr(page, "PLOTS", folder / "plots")
    stamp: dict[str, Any] = {"began": "2026-01-01T00:00:00", "commit": "abc", "machine": MACHINE}
    page.write([{**asdict(row), **stamp} for row in rows])
    return (folder / "performance.md").read_text()


def test_a_part_that_cost_nothing_would_leave_the_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is said to limit a rate is computed from the parts that were measured: 400 a second at 2.9 ms each."""
    lines = _written(_rows(), monkeypatch, tmp_path).splitlines()
    assert [line for line in lines if line.startswith(("| fleet |", "| broker |"))] == [
        "| fleet | 1.9 | 1,160 | 35.09 |",
        "| broker | 1 | 610.5 | 18.47 |",
    ]


def test_an_aim_is_kept_or_missed_by_its_figure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A missed aim stands on the page as missed, and only that one; every part has its plot and its command."""
    good = _written(_rows(), monkeypatch, tmp_path)
    assert "**missed**" not in good
    assert "<!--" not in good
    # A thousand devices are two rates; a history, noise, a page and a gateway are lists: none is a curve.
    assert {path.stem for path in (tmp_path / "plots").iterdir()} == {*page.SECTIONS, "tasks-64"} - {
        "crowd",
        "gateway",
        "history",
        "noise",
        "page",
        "masking",
        "robust",
    }
    assert [f"1,000 tasks on {number} partitions" in good for number in (8, 64, 9)] == [True, True, False]
    assert all(f"`make bench ONLY={name}`" in good for name in page.SECTIONS)
    slow = [replace(row, share_of_floor=0.59) if row.name == "ingest" else row for row in _rows()]
    assert _written(slow, monkeypatch, tmp_path).count("**missed**") == 1
    assert [ingest.missed(row) for row in slow].count(True) == 1


def test_what_was_not_measured_is_not_claimed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A part without rows says so."""
    only = [row for row in _rows() if row.name == "latency"]
    assert _written(only, monkeypatch, tmp_path).count("Not measured yet.") == len(page.SECTIONS) - 1


def test_a_peer_that_was_left_out_keeps_its_rows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A run without a peer leaves that peer's rows of an earlier run on the page, which says which run that was."""
    [engine, *_] = [row for row in _rows() if row.name == "end_to_end"]
    stamp = {"commit": "abc", "machine": MACHINE}
    recorded = [
        {**asdict(replace(engine, updates_per_s=updates_per_s, peer=name)), **stamp, "began": began}
        for began, name, updates_per_s in (("1", "slow", 1.0), ("1", "fast", 1.0), ("2", "fast", 2.0))
    ]
    kept = newest(recorded)
    assert [(row["began"], row["peer"]) for row in kept] == [("2", "fast"), ("1", "slow")]
    assert " The rows of slow are those of 1, commit abc." in " ".join(page._stamp(kept).split())


def test_a_part_that_is_measured_alone_leaves_the_others() -> None:
    """Of the gateway's row each size, what is idle and what is under fire have their newest run, whenever that was."""
    stamp = {"commit": "abc", "machine": MACHINE}
    found = [
        ("1", "hand in", 10),
        ("1", "idle", 10),
        ("2", "hand in", 20),
        ("3", "hand in", 10),
        ("4", "under fire", 10),
    ]
    recorded = [
        {**asdict(Row(name="gateway", params=params, more={"what": what})), **stamp, "began": began}
        for began, what, params in found
    ]
    kept = {(row["began"], row["more"]["what"], row["params"]) for row in newest(recorded)}
    assert kept == {*found[1:]}


def test_a_ratio_is_that_of_pairs() -> None:
    """Median and spread over runs that were made together, not of two medians."""
    assert ratios([1.0, 20.0, 9.0], [1.0, 10.0, 3.0]) == {"ratio_median": 2.0, "ratio_min": 1.0, "ratio_max": 3.0}
