"""A question to real devices on a real broker, asked and read by the console."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from actors.deciders.arithmetic import noise
from client_agent.running.loop import read_clock_ms
from ops.history.tables.projector import Viewer
from schemas.events import ModelPublished, Noticed, RoundCharged, RoundProposed, TaskCreated
from streams.kafka.log import KafkaLog
from streams.kafka.settings import KafkaSettings
from tests.judges.identity.epsilons import epsilon_faults
from tests.judges.logbook import Logbook, read
from tests.judges.models import model_faults
from tests.judges.plain_reader import PlainLog
from tests.judges.rounds import totals
from tests.places import home_of
from tests.plain_statistics import recompute_statistics
from tests.survey import RINGS, opened_devices, training_policy
from tests.tables import synced
from tests.worlds.stage import ACTORS, Stage, say, staged

SLOTS = {"devices_expected": 2, "concurrency": 2, "retry_after_s": 0.3}
DEVICES = 2


def live(stage: Stage, log: KafkaLog, task: str) -> None:
    """Let the devices work on a task until it has a version."""
    operator = stage.key.public_key
    with opened_devices(log, task, stage.folder, devices=DEVICES, clock_ms=read_clock_ms, operator=operator) as loop:
        stage.until(lambda: loop.step(read_clock_ms(), 0.1) and stage.version(task) >= 1, task, timeout_s=90)


def ask_privately(stage: Stage) -> str:
    """The name of a measurement of version 0, which is not the newest, with noise; its devices have answered."""
    words = ("--metrics", "sum", "--bound", "sum=64", "--version", "0", "--name", f"{RINGS}.private")
    asked = stage.fedlog("measure", RINGS, *words, "--noise-multiplier", "1.0", "--rho-max", "9")
    assert asked.exit_code == 0, asked.stderr
    live(stage, stage.log, name := asked.stdout.strip())
    shown = json.loads(stage.fedlog("task", "show", name, "--json").stdout)
    assert shown["epsilon"] > 0
    return name


def check_charge(stage: Stage, name: str) -> None:
    """It was charged before it was published, and an independent reader finds its noise on the sum of the bodies."""
    secret = stage.key.derive_noise(stage.deployment).secret
    book = read(stage.log, home_of(RINGS), noise_key=secret)
    [charged] = [event for event in book.ledger.events(RoundCharged) if event.task == name]
    # One participation at z = 1; on the grid sigma is z times the largest weight times the clip.
    rules = next(e.fact for e in book.rounds.events(Noticed) if isinstance(e.fact, TaskCreated) and e.fact.task == name)
    assert (charged.rho_total, charged.mechanism.sigma) == (0.5, (1 << 20) * rules.policy.clipping.steps)
    assert rules.subject is not None
    assert (rules.subject.task, rules.subject.version) == (RINGS, 0)
    order = [
        type(event.fact if isinstance(event, Noticed) else event)
        for event in book.rounds.events(Noticed, ModelPublished)
        if getattr(event.fact if isinstance(event, Noticed) else event, "task", "") == name
    ]
    # Version 0 of a measurement is nothing but zeros.
    assert order == [TaskCreated, ModelPublished, RoundCharged, ModelPublished]
    sums, faults = totals(stage.log, book)
    assert [*faults, *model_faults(stage.log, book, sums), *epsilon_faults(book)] == []
    # One of training, two of measuring: each release was made again, bit for bit within float32.
    assert book.models == 3
    assert np.abs(noise.draw(secret, _proposal(book, name), parameters=rules.parameters)).min() > 0


def check_tables(stage: Stage, name: str, private: str) -> None:
    """The history has each value as an independent reader computes it from the bodies, and of the private one other."""
    plain = PlainLog.read(stage.kafka.client(), stage.kafka.topic_prefix)
    viewer = Viewer(operator=stage.key.public_key, deployment=stage.deployment)
    with synced(stage.folder / "history.duckdb", stage.log, viewer) as history:
        found = {
            task: history.ask(
                "SELECT version, statistic, index, value FROM statistics WHERE task = $task", parameters={"task": task}
            ).rows
            for task in (name, private)
        }
    assert sorted(found[name]) == sorted(recompute_statistics(plain, name))
    assert len(found[name]) == len(found[private]) == 3
    # What it computes is the sum without the noise, which nobody has released.
    exact = {row[:3]: row[3] for row in recompute_statistics(plain, private)}
    assert all(value != exact[tuple(at)] for *at, value in found[private])
    say(found)


def _proposal(book: Logbook, task: str) -> RoundProposed:
    return next(event for event in book.rounds.events(RoundProposed) if event.task == task)


@pytest.mark.timeout(240)
def test_a_version_is_measured_by_its_devices(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    """A task is trained, its versions measured, one with privacy, shown, exported; the log is lawful and replays."""
    rules = training_policy(selection=SLOTS, aggregation={"updates_per_round": DEVICES}, stop={"versions_max": 1})
    with staged(kafka_settings, tmp_path) as stage:
        stage.create_task(RINGS, rules, parameters=6)
        stage.start(*ACTORS)
        live(stage, stage.log, RINGS)
        asked = stage.fedlog("measure", RINGS, "--metrics", "sum", "--bound", "sum=64", "--version", "1")
        assert asked.exit_code == 0, asked.stderr
        name = asked.stdout.strip()
        live(stage, stage.log, name)
        shown = json.loads(stage.fedlog("task", "show", RINGS, "--json").stdout)
        [measured] = shown["measurements"]
        assert (measured["task"], measured["of_version"], measured["devices"]) == (name, 1, DEVICES)
        assert measured["statistics"]["examples"] == 7.0
        private = ask_privately(stage)
        exported = stage.fedlog("model", "export", "--task", name, "--out", str(tmp_path / "out"))
        assert exported.exit_code == 0, exported.stderr
        assert json.loads((tmp_path / "out" / "config.json").read_text())["measured"] == {"task": RINGS, "version": 1}
        stage.until_lawful(home_of(RINGS))
        for words in (("verify",), ("replay", "--full", "--json")):
            checked = stage.fedlog(*words)
            assert checked.exit_code == 0, checked.stdout + checked.stderr
        check_charge(stage, private)
        check_tables(stage, name, private)
        say(stage.report(home_of(RINGS)))
