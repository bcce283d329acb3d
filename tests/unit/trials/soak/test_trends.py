"""The instrument of `make soak`: a leak is found, what only looks like one is not, and a seed repeats its kills."""

from __future__ import annotations

import errno
import itertools
import random
import socket
from pathlib import Path

import psutil
import pytest

from tests.trials.soak.curves import PANELS, draw
from tests.trials.soak.judging import CEILINGS_MIB, Load, judge
from tests.trials.soak.kills import Kill, draw_kills
from tests.trials.soak.sampling import Sample, _name_place, read_process
from tests.trials.soak.trends import Points, find_trend
from tests.worlds.deployment.product import BROKER

HOUR = Load(records_h=100_000, inputs_h=50_000, log_mib_h=100, kills_h=60)
EVERY_S = 5.0


def live(minutes: float, *, grows: float = 0.0, noise: float = 1.0, seed: int = 1) -> Points:
    """A life of so many minutes that grows by so much an hour, with a ramp at its begin and spikes now and then."""
    draw_noise = random.Random(seed)
    points = []
    for number in range(int(minutes * 60 / EVERY_S)):
        at_s = number * EVERY_S
        ramp = -40 * max(0.0, 1 - at_s / 60)
        spike = 50 if number % 40 == 39 else 0
        points.append((at_s, 100 + ramp + spike + grows * at_s / 3600 + draw_noise.gauss(0, noise)))
    return points


@pytest.mark.parametrize("minutes", [20, 60])
def test_a_leak_is_found_and_its_size_told(minutes: int) -> None:
    """Law: what certainly grows by more than it may fails the run, spikes and a slow start or not."""
    trend = find_trend([live(minutes, grows=30)])
    assert trend is not None
    assert trend.judge(9.5) == "grows"
    assert trend.slope == pytest.approx(30, rel=0.25)


def test_a_leak_is_found_over_many_short_lives() -> None:
    """A process that is killed again and again begins anew each time, and leaks in each of its lives."""
    trend = find_trend([live(8, grows=30, seed=seed) for seed in range(8)])
    assert trend is not None
    assert trend.judge(9.5) == "grows"


def test_what_does_not_grow_is_steady_and_what_is_short_is_undecided() -> None:
    """Law: neither a ramp nor noise is a leak, and nothing is called steady that might as well grow."""
    steady, short = find_trend([live(60)]), find_trend([live(4, noise=5)])
    assert steady is not None
    assert steady.judge(9.5) == "steady"
    assert short is not None
    assert short.judge(9.5) == "undecided"
    assert find_trend([live(2)]) is None


def test_points_that_follow_each_other_say_less() -> None:
    """A walk at random has no trend, however steadily it seems to go somewhere: most of them are not called one."""
    found = 0
    for seed in range(40):
        step = random.Random(seed)
        walk = itertools.accumulate(step.gauss(0, 0.3) for _ in range(720))
        trend = find_trend([[(number * EVERY_S, value) for number, value in enumerate(walk)]])
        found += trend is not None and trend.judge(9.5) == "grows"
    assert found <= 8


def test_each_figure_has_its_law() -> None:
    """Threads may not stay with kills, nor memory with inputs; pools stay below a ceiling; the log is not judged."""
    lives = {
        ("aggregator", "memory"): live(60, grows=30),
        # Until it has filled what it remembers for ten minutes.
        ("privacy", "memory"): [(at_s, min(at_s, 600.0)) for at_s, _ in live(60)],
        ("selector", "memory"): live(60),
        ("selector", "threads"): [(number * EVERY_S, 30 + number // 12) for number in range(720)],
        ("log", "disk"): live(60, grows=100),
        ("run", "disk"): live(60, grows=100),
        (BROKER, "memory"): [(number * EVERY_S, CEILINGS_MIB[BROKER, "memory"] + 1) for number in range(720)],
        ("registrar", "lag"): live(1),
    }
    samples = [
        Sample(part=part, figure=figure, life=0.0, at_s=at_s, value=value)
        for (part, figure), life in lives.items()
        for at_s, value in life
    ]
    verdicts = {(row["part"], row["figure"]): row["verdict"] for row in judge(samples, HOUR)}
    assert verdicts == {
        ("aggregator", "memory"): "grows",
        ("privacy", "memory"): "steady",
        ("selector", "memory"): "steady",
        ("selector", "threads"): "grows",
        ("log", "disk"): "the log's",
        ("run", "disk"): "grows",
        (BROKER, "memory"): "grows",
        ("registrar", "lag"): "too short",
    }
    picture = draw(samples, [Kill(at_s=60.0, name="selector")])
    assert picture.count("<polyline") == len(lives)
    assert "selector is killed" in picture
    assert all(title in picture for figure, title in PANELS.items() if figure != "handles")


def test_a_seed_repeats_its_kills() -> None:
    """The command that is printed kills the same at the same moments, and everybody as often as the others."""
    names = ["a", "b", "c"]
    kills = list(draw_kills(7, names, seconds=900))
    assert kills == list(draw_kills(7, names, seconds=900))
    assert kills != list(draw_kills(8, names, seconds=900))
    assert sorted(kill.name for kill in kills[:12]) == sorted(names * 4)
    assert all(60 * number <= kill.at_s < 60 * (number + 2) for number, kill in enumerate(kills, start=1))


def test_who_is_spared_lives_on_after_a_third() -> None:
    """What fills its memory for ten minutes lives for long enough to be judged, and is killed before that."""
    kills = list(draw_kills(7, ["a", "b", "c"], seconds=1800, spared=["b"]))
    assert {kill.name for kill in kills if kill.at_s < 600} == {"a", "b", "c"}
    assert {kill.name for kill in kills if kill.at_s >= 660} == {"a", "c"}


def test_handles_of_the_log_s_own_files_are_not_counted(tmp_path: Path) -> None:
    """A broker opens files as its log grows; a handle of anything else that stays is a leak."""
    before = dict(read_process(psutil.Process()))["handles"]
    with (tmp_path / "0.log").open("wb"), (tmp_path / "0.timeindex").open("wb"), (tmp_path / "other").open("wb"):
        assert dict(read_process(psutil.Process()))["handles"] == before + 1


def test_sockets_that_were_refused_are_not_counted() -> None:
    """They wait for Python's collector; one that has a peer, or waits for one, stays until somebody closes it."""
    before = dict(read_process(psutil.Process()))["handles"]
    with socket.socket() as refused, socket.socket() as open_for_peers:
        # Nobody listens there.
        assert refused.connect_ex(("127.0.0.1", 1)) == errno.ECONNREFUSED
        assert dict(read_process(psutil.Process()))["handles"] == before
        open_for_peers.bind(("127.0.0.1", 0))
        open_for_peers.listen()
        assert dict(read_process(psutil.Process()))["handles"] == before + 1


def test_records_are_told_from_what_the_broker_keeps_beside_them() -> None:
    """Only what is a record of the log grows with it by right."""
    assert _name_place(("broker", "data", "fedlog.rounds-0"), "00000000000000000000.log") == "log"
    assert _name_place(("broker", "data", "fedlog.rounds-0"), "00000000000000000000.index") == "broker beside the log"
    assert _name_place(("broker", "data", "__cluster_metadata-0"), "00000000000000000000.log") != "log"
    assert _name_place((), "history.duckdb.wal") == "history"
    assert _name_place(("gateway", "models"), "abc") == "gateway"
