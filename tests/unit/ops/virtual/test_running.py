"""A deterministic run: the same again from the same seeds, each seed for itself, and a log like any other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import fedlog
from actors import keys
from client_agent.hostile.attacks import parse_attack
from ops.audit.replay import Anchor, Audit
from ops.audit.verification import Verification
from ops.processes.running import RunFailed, RunOptions, TooFewDevices, read_policy, seed_all
from ops.settings import ENVIRONMENT, resolve
from ops.virtual.running import NotRepeatable, VirtualRun
from ops.virtual.server import START_MS
from schemas.events import LeaseClosed, LeaseGranted, ModelPublished, UpdateAdmitted
from schemas.topics import ROUNDS, SELECTIONS
from streams.exported import ExportedLog
from streams.journals import read_decisions
from streams.log import TopicPartition

POLICY = """
learner = "line_learner:Line"
[selection]
devices_expected = 12
concurrency = 9
lease_s = 3.0
retry_after_s = 0.4
[aggregation]
updates_per_round = 3
[clipping]
norm = 8.0
[staleness]
rule = "polynomial"
max_versions = 20
[stop]
versions_max = 8
"""
# Ten examples each whatever the split, because a device with more of them takes longer.
LEARNER = """
import numpy as np

class Line:
    def initialize(self, seed):
        return {"w": np.random.default_rng(seed).normal(size=3)}
    def load(self, part):
        draw = np.random.default_rng([part.seed, part.index, part.split == "test"])
        x = draw.normal(size=(10, 3))
        return list(zip(x, x @ [1.0, -2.0, 3.0] + draw.normal(size=10)))
    def train(self, start, data, *, context):
        w = start["w"].copy()
        for number in np.random.default_rng(context.seed).permutation(len(data)):
            x, y = data[number]
            w -= 0.05 * (w @ x - y) * x
        return {"w": w}, {}
    def evaluate(self, parameters, data):
        return {"loss": float(np.mean([(parameters["w"] @ x - y) ** 2 for x, y in data]))}
"""
HABITS = "training_ms = 700\nspeed_sigma = 0.8\ndrop_probability = 0.25\npresence = 0.9\ncharging_share = 0.5\n"


@dataclass(frozen=True)
class Told:
    """What the log of a run says; `leases` has who was asked for which version, and when."""

    leases: list[tuple[Any, ...]]
    closed: Counter[str]
    members: list[tuple[Any, ...]]
    models: list[bytes]
    bodies: list[bytes]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a policy, a learner in numpy, and habits that make updates stale and leases expire."""
    for name, text in (("line.toml", POLICY), ("line_learner.py", LEARNER), ("habits.toml", HABITS)):
        (tmp_path / name).write_text(text)
    for variable in ENVIRONMENT:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("FEDLOG_FOLDER", str(tmp_path / "state"))
    yield tmp_path
    sys.modules.pop("line_learner", None)
    sys.path[:] = [place for place in sys.path if place != str(tmp_path)]


def read(folder: Path) -> Told:
    """The exported log, without a word of the run itself."""
    log = ExportedLog(folder)
    events = [
        event
        for topic in (SELECTIONS, ROUNDS)
        for _, decision, _ in read_decisions(log, TopicPartition(topic.name, 0), trust=None)
        for event in decision.events
    ]
    models = [event.model.sha256 for event in events if isinstance(event, ModelPublished)]
    admitted = [event for event in events if isinstance(event, UpdateAdmitted)]
    return Told(
        [(e.device, e.version, e.sent_ms, e.deadline_ms) for e in events if isinstance(e, LeaseGranted)],
        Counter(event.outcome for event in events if isinstance(event, LeaseClosed)),
        [(e.round, e.device, e.version, e.staleness, e.weight, e.clip_scale) for e in admitted],
        models,
        [event.body.sha256 for event in admitted],
    )


def options_of(project: Path, *changes: str, **more: Any) -> RunOptions:
    """The run of the project with seed 1 and these changes."""
    policy = read_policy(project / "line.toml", [*seed_all(1), *changes])
    plain: dict[str, Any] = {"policy": policy, "name": "line", "simulate": project / "habits.toml", "cwd": project}
    return RunOptions(**{**plain, **more})


def run_here(project: Path, *changes: str, **more: Any) -> Told:
    """Run it in this process."""
    run = VirtualRun(resolve({}), options_of(project, *changes, **more))
    with run:
        for _ in run.follow():
            pass
    assert run.log_folder is not None
    return read(run.log_folder)


def begin(project: Path, hash_seed: str) -> subprocess.Popen[str]:
    """Run it as a person does, in a process of its own."""
    words = ["run", "line.toml", "--seed", "1", "--deterministic", "--simulate", "habits.toml", "--json"]
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "ops.terminal.cli", "--folder", f"state-{hash_seed}", *words],
        cwd=project,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_same_seed_gives_the_same_run(project: Path) -> None:
    """Guarantee: members, staleness, weights and every model are the same in any process; another seed has others."""
    running = [begin(project, hash_seed) for hash_seed in ("1", "2")]
    other = run_here(project, *seed_all(2))
    ends = [(process.communicate(), process.returncode) for process in running]
    assert [code for _, code in ends] == [0, 0], ends
    told = [json.loads(out) for (out, _), _ in ends]
    first, second = (read(project / f"state-{number}" / "deterministic" / "line-1") for number in "12")
    assert first == second
    assert told[0]["run_sha256"] == told[1]["run_sha256"]
    assert told[0]["curve"] == told[1]["curve"]
    assert (told[0]["version"], told[0]["status"]) == (8, "halted: versions_max")
    # What it is about: an asynchronous run with stale updates, and with devices that died under a lease.
    assert any(staleness > 1 for _, _, _, staleness, _, _ in first.members)
    assert first.closed["expired"]
    assert other.members != first.members
    assert not set(other.models) & set(first.models)
    for (_, said), _ in ends:
        assert "Given up: processes that die" in said


@pytest.mark.parametrize("word", ["alie:0.34", "sign_flip:0.34:3", "stale_burst:0.34", "fast:0.34:3"])
def test_an_attack_is_the_same_again(project: Path, word: str) -> None:
    """Guarantee: a hostile run repeats itself to the bit, learns something else, and its counts name the attack."""

    def attack(attack: str | None) -> tuple[Told, str]:
        run = VirtualRun(resolve({}), options_of(project, attack=attack and parse_attack(attack)))
        with run:
            for _ in run.follow():
                pass
            told = run.read_fleet_counts()["attack"]
        assert run.log_folder is not None
        return read(run.log_folder), told

    first, told = attack(word)
    assert attack(word) == (first, told)
    assert parse_attack(told) == parse_attack(word)
    plain, nothing = attack(None)
    assert first.models != plain.models
    assert nothing == ""


@pytest.mark.parametrize("max_versions", [20, 0], ids=["asynchronous", "synchronous"])
def test_each_seed_decides_for_itself(project: Path, max_versions: int) -> None:
    """Guarantee: a seed changes what it is for: version 0, what devices learn from, in which order, or when."""

    def run(*changes: str) -> Told:
        return run_here(project, f"staleness.max_versions={max_versions}", "stop.versions_max=3", *changes)

    plain = run()
    assert run() == plain
    model, split, training, habits = (run(f"seeds.{name}=2") for name in ("model", "split", "training", "habits"))
    assert [told.models[0] == plain.models[0] for told in (model, split, training, habits)] == [False, True, True, True]
    # The first to arrive has trained from version 0, so that only its own examples and draws tell it apart.
    assert not {model.bodies[0], split.bodies[0], training.bodies[0]} & {plain.bodies[0]}
    first = len([lease for lease in plain.leases if lease[1] == 0])
    assert split.leases[:first] == training.leases[:first] == plain.leases[:first]
    assert habits.leases[:first] != plain.leases[:first]
    if max_versions:
        # Nobody is drawn by the model here, so that who trains what and when is a matter of habits alone.
        assert model.leases == split.leases == training.leases == plain.leases


@pytest.mark.parametrize(("over", "habits"), [(0, ""), (3, ""), (3, HABITS)], ids=["exact", "spare", "mortal"])
def test_a_synchronous_round_wastes_what_it_was_told_to_and_what_died(project: Path, over: int, habits: str) -> None:
    """Guarantee: of K = 10, trained and not admitted are at most the over-selection of each round, and drop-outs."""
    (project / "habits.toml").write_text(habits or "training_ms = 100\n")
    changes = {
        "staleness.max_versions": 0,
        "aggregation.updates_per_round": 10,
        "selection.concurrency": 10 + over,
        "selection.devices_expected": 40,
        "stop.versions_max": 5,
    }
    told = run_here(project, *(f"{field}={value}" for field, value in changes.items()))
    assert len(told.members) == 50
    lost = told.closed["expired"] + told.closed["abandoned"]
    assert len(told.leases) - len(told.members) <= 5 * over + lost
    assert bool(lost) == bool(habits)
    # As many devices as the rounds have room for took part: nobody is there in each round because it is fast.
    assert len({device for _, device, *_ in told.members}) > 25


def test_its_log_is_like_any_other(project: Path) -> None:
    """Guarantee: chains are whole, a full replay recomputes every version, and times are seen to be no real ones."""
    run = VirtualRun(resolve({}), options_of(project))
    with run:
        for view in run.follow():
            state = view
    log, key = ExportedLog(run.log_folder or Path()), keys.load(project / "state" / "operator.key")
    findings = Audit(log, 0, anchor=Anchor(operator=key.public_key), full=True).run()
    assert (findings.verdict, findings.models, findings.compared) == ("identical", 8, 8)
    assert list(Verification(log, 0, operator=key.public_key).check()) == []
    assert 0 < state.published_ms[8] - START_MS < 60_000


def test_a_run_again_has_a_folder_of_its_own(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Guarantee: from Python it is one word, its model and score are at hand, and no log takes another's place."""
    options: Any = {"seed": 1, "deterministic": True, "changes": ["stop.versions_max=2"], "devices": 6}
    first, second = (fedlog.run(project / "line.toml", **options) for _ in range(2))
    assert first.summary["run_sha256"] == second.summary["run_sha256"]
    assert (first.model.arrays["w"] == second.model.arrays["w"]).all()
    assert first.score == second.score
    assert sorted(path.name for path in (project / "state" / "deterministic").iterdir()) == ["line-1", "line-2"]
    assert "virtual time" in capsys.readouterr().out


PRIVATE = ("privacy.noise_multiplier=1.0", "privacy.rho_max=9.0", "stop.versions_max=2")


@pytest.mark.parametrize(
    ("changes", "more", "said"),
    [
        (PRIVATE, {}, "noise that comes out the same again"),
        ((), {"resume": True, "keep": True}, "--resume, --keep"),
        ((), {"devices": 2}, "a round needs 3"),
    ],
    ids=["privacy", "resume", "devices"],
)
def test_what_could_not_be_the_same_is_refused(
    project: Path, changes: tuple[str, ...], more: dict[str, Any], said: str
) -> None:
    """Guarantee: noise from a seed is never released as privacy; what needs a broker is refused before anything is."""
    run = VirtualRun(resolve({}), options_of(project, *changes, **more))
    with pytest.raises((NotRepeatable, TooFewDevices), match=said), run:
        pass
    assert not (project / "state").exists()


def test_a_run_that_comes_to_nothing_says_why_and_keeps_its_log(project: Path) -> None:
    """Guarantee: devices that cannot train, or a stop, end it with an error at once; the log tells what there was."""
    (project / "line_learner.py").write_text(
        LEARNER.replace("w = start", "raise RuntimeError('no luck')\n        w = start")
    )
    run = VirtualRun(resolve({}), options_of(project))
    with pytest.raises(RunFailed, match=r"No device has trained line.*no luck"), run:
        for _ in run.follow():
            pass
    assert read(run.log_folder or Path()).leases
    run = VirtualRun(resolve({}), options_of(project))
    run.stop()
    with pytest.raises(RunFailed, match="was stopped"), run:
        next(run.follow())
    assert len(read(run.log_folder or Path()).models) == 1
