"""`fedlog export-log` and `--from-files`: what an auditor does, with files and a public key and no Kafka."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from actors.keys import OperatorKey
from actors.wiring import ROLES
from ops.settings import ENVIRONMENT, Settings
from ops.terminal.cli import app
from schemas.events import TaskSucceeded
from schemas.policy import Spending
from schemas.published import Head, describe_heads, describe_version, sign_statement
from schemas.topics import BODIES, PUBLISHED, ROUNDS, TASKS
from streams.exported import ExportedLog
from streams.log import TopicPartition, scan
from tests.places import home_of
from tests.worlds.builders import (
    DEPLOYMENT,
    KEY,
    create_task,
    model_published,
    policy,
    private_policy,
    role_key,
    spending,
    written,
)
from tests.worlds.federation import Federation

Run = Callable[..., Result]


@pytest.fixture
def world() -> Federation:
    """Two rounds, with bodies beside."""
    world = Federation(policy())
    for turn in range(2):
        world.round_of({name + str(turn): np.ones(4, np.float32) for name in "abc"})
    return world


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """`fedlog` in a folder of its own, where no Kafka answers and the operator's key is at hand."""
    monkeypatch.chdir(tmp_path)
    for variable in ENVIRONMENT:
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / ".fedlog").mkdir()
    (tmp_path / ".fedlog/operator.key").write_text(KEY.secret.hex())
    (tmp_path / ".fedlog/operator.key").chmod(0o600)
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def exported(world: Federation, run: Run, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An export of the partition with all its bodies."""
    with monkeypatch.context() as patched:
        patched.setattr(Settings, "log", lambda self, client_id="": world.log)
        result = run("export-log", "--to", "out", "--task", world.task, "--bodies")
    assert result.exit_code == 0, result.output
    return Path("out").resolve()


def test_an_export_is_verified_and_replayed_without_kafka(run: Run, exported: Path) -> None:
    """Chains, heads, every sum and every model, from files alone."""
    verified = run("verify", "--from-files", exported)
    assert verified.exit_code == 0, verified.output
    assert "signed heads" in verified.output
    replayed = run("replay", "--full", "--from-files", exported)
    assert (replayed.exit_code, "2 sums, 2 models" in replayed.output) == (0, True), replayed.output
    assert "ModelPublished" in run("events", "--from-files", exported).output


def test_an_export_of_a_child_holds_its_parents(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full replay recounts what the tasks before have spent, so their partitions are taken along, to the first."""
    world = Federation(private_policy())
    world.round_of({name: np.ones(4, np.float32) for name in "abc"})
    spent: tuple[Spending, ...] = ()
    parent, line = world.task, [world.partition]
    for _ in range(2):
        child = next(name for name in (f"child-{n}" for n in range(999)) if home_of(name) not in {0, *line})
        spent = (*spent, spending(0 if spent else 1, 1.0, task=parent))
        succeeded = TaskSucceeded(task=parent, deployment=DEPLOYMENT, successor=child)
        world.append(TASKS.name, written(succeeded))
        create_task(world.log, private_policy(), task=child, model=np.zeros(4), parent=parent, spent_before=spent)
        world = beside(world, home_of(child))
        parent, line = child, [*line, world.partition]
    monkeypatch.setattr(Settings, "log", lambda self, client_id="": world.log)
    told = run("export-log", "--to", "out", "--task", parent, "--bodies")
    assert told.exit_code == 0, told.output
    assert [f"Partition {number} is taken along" in told.stderr for number in line] == [True, True, False]
    assert ExportedLog(Path("out")).list_partitions([ROUNDS.name]) == sorted(line)
    assert run("verify", "--from-files", "out").exit_code == 0
    replayed = run("replay", "--full", "--task", parent, "--from-files", "out")
    assert (replayed.exit_code, "Not checked" in replayed.output) == (0, False), replayed.output


def beside(world: Federation, partition: int) -> Federation:
    """The actors of another partition of the same log."""
    other = copy.copy(world)
    other.partition, other.actors = partition, {}
    for name in ROLES:
        other.start(name)
    other.settle()
    return other


def test_an_auditor_needs_the_public_key_alone(run: Run, exported: Path, world: Federation) -> None:
    """A saved announcement and 64 hex digits: with those of another key the answer is no."""
    public = run("key", "show").output.strip()
    assert public == KEY.public_key.hex()
    Path(".fedlog/operator.key").unlink()
    records = scan(world.log, TopicPartition(PUBLISHED.name, world.partition))
    Path("saved").write_bytes(b"\n".join(record.value or b"" for record in records))
    assert run("verify", "--from-files", exported, "--checkpoint", "saved").exit_code == 2
    for checkpoint in ("saved", exported / "checkpoint.json"):
        words = ("verify", "--from-files", exported, "--checkpoint", checkpoint, "--operator-public-key")
        assert run(*words, public).exit_code == 0
        refused = run(*words, "00" * 32)
        assert (refused.exit_code, "does not vouch" in refused.output) == (1, True)
    assert "Who signed them was not checked" in run("verify", "--from-files", exported).output


def test_a_checkpoint_of_a_partition_that_is_not_there_is_no_pass(run: Run, exported: Path, world: Federation) -> None:
    """A whole partition left out is a cut too."""
    other = Federation(
        policy(),
        task=next(f"t{n}" for n in range(99) if Federation(policy(), task=f"t{n}").partition != world.partition),
    )
    [record, *_] = scan(other.log, TopicPartition(PUBLISHED.name, other.partition))
    Path("saved").write_bytes(record.value or b"")
    refused = run("verify", "--from-files", exported, "--checkpoint", "saved")
    assert (refused.exit_code, "which are not here" in refused.output) == (1, True)


def test_a_folder_that_is_no_export_is_explained(run: Run, exported: Path) -> None:
    """Neither a traceback nor an empty success."""
    Path("empty").mkdir()
    assert (run("verify", "--from-files", "empty").exit_code, run("verify", "--from-files", "none").exit_code) == (1, 1)
    [file] = exported.glob(f"{BODIES.name}-*")
    file.write_bytes(b"x" * file.stat().st_size)
    for name in exported.glob("rounds-*"):
        name.write_bytes(name.read_bytes()[:-1] + b"x")
    refused = run("verify", "--from-files", exported)
    assert (refused.exit_code, "not the bytes that were exported" in refused.output) == (1, True)


def test_a_flipped_byte_of_a_file_is_named_by_both(run: Run, exported: Path, world: Federation) -> None:
    """Whichever byte of a journal's file it is: `verify` and `replay` name topic, partition and offset, and end."""
    path = exported / f"rounds-{world.partition}"
    whole = path.read_bytes()
    for at in range(0, len(whole), len(whole) // 9):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        for words in (("verify",), ("replay",), ("replay", "--full")):
            refused = run(*words, "--from-files", exported)
            assert refused.exit_code == 1, refused.output
            assert f"rounds[{world.partition}]@" in refused.stderr


def test_a_difference_is_told_once(run: Run, world: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    """For people each difference is one line on stderr; for machines all stand in the JSON. Either way exit 1."""
    monkeypatch.setattr(Settings, "log", lambda self, client_id="": world.log)
    entries = world.log._partitions[TopicPartition("rounds", world.partition)].entries
    record = entries[2].record
    assert record is not None
    entries[2].record = replace(record, value=b"junk")
    named = f"rounds[{world.partition}]@4: this record or one"
    told = run("replay")
    assert (told.exit_code, told.output.count(named), named in told.stderr) == (1, 1, True)
    machine = run("replay", "--json")
    assert (machine.exit_code, machine.stderr) == (1, "")
    assert json.loads(machine.stdout)["replay"].startswith(named)


def test_a_replay_says_how_far_it_went(run: Run, exported: Path, world: Federation) -> None:
    """--to ends the fold with or without --full; a task that is not there is no success."""
    short = run("replay", "--to", 1, "--from-files", exported)
    assert (short.exit_code, f"Folded up to: {world.task}/1;" in short.output) == (0, True), short.output
    assert "Replay: identical, as far as was asked" in short.output
    told = json.loads(run("replay", "--to", 0, "--full", "--json", "--from-files", exported).stdout)
    assert (told["reached"], told["models"], told["unchecked"]) == ([f"{world.task}/0"], 0, [])
    assert run("replay", "--to", -1, "--from-files", exported).exit_code == 2
    name = next(name for name in (f"t{n}" for n in range(99)) if home_of(name) == world.partition)
    missing = run("replay", "--task", name, "--from-files", exported)
    assert (missing.exit_code, f"no task '{name}'" in missing.stderr) == (1, True)


def test_a_folder_that_holds_something_is_not_written_over(run: Run, exported: Path) -> None:
    """An export never mixes with another."""
    assert (run("export-log", "--to", exported).exit_code, (exported / "manifest.json").exists()) == (2, True)


def test_verify_says_that_an_export_may_have_been_cut(run: Run, exported: Path) -> None:
    """Its own signed heads are compared without being named; where there are none, that is said beside the verdict."""
    whole = run("verify", "--from-files", exported)
    assert (whole.exit_code, "was not checked" in whole.stderr) == (0, False)
    (exported / "checkpoint.json").unlink()
    unsigned = run("verify", "--from-files", exported)
    assert (unsigned.exit_code, "Where its journals ended was not checked" in unsigned.stderr) == (0, True)


@pytest.mark.parametrize("knows", ["the public key", "nobody"])
def test_whoever_knows_the_public_key_exports_all(
    run: Run, world: Federation, monkeypatch: pytest.MonkeyPatch, knows: str
) -> None:
    """Without any key a stranger's number ends `published` early, and that it may have is said."""
    at = TopicPartition(PUBLISHED.name, world.partition)
    head = Head(topic=ROUNDS.name, partition=world.partition, seq=10**9, head="00" * 32)
    statement = describe_version(model_published(9), world.now_ms, head=head)
    world.append(at.topic, sign_statement(statement, OperatorKey(bytes(32)).signing))
    monkeypatch.setattr(Settings, "log", lambda self, client_id="": world.log)
    Path(".fedlog/operator.key").unlink()
    words = ("--operator-public-key", KEY.public_key.hex()) if knows == "the public key" else ()
    result = run("export-log", "--to", "out", "--task", world.task, *words)
    assert result.exit_code == 0, result.output
    is_whole = [*scan(ExportedLog(Path("out")), at)] == [*scan(world.log, at)]
    assert (is_whole, "ended `published` here early" in result.stderr) == ((True, False) if words else (False, True))


@pytest.mark.parametrize("hand", ["a stranger", "the operator", "its own, of another partition"])
def test_an_announcement_of_nothing_ends_no_export(
    run: Run, world: Federation, monkeypatch: pytest.MonkeyPatch, hand: str
) -> None:
    """Whoever can write to `published` names a batch to come: what was announced after it is exported all the same."""
    at = TopicPartition(PUBLISHED.name, world.partition)
    partition = world.partition + (hand == "its own, of another partition")
    head = Head(topic=ROUNDS.name, partition=partition, seq=10**9, head="00" * 32)
    statement = describe_version(model_published(9), world.now_ms, head=head)
    signer = role_key("aggregator").signer
    forged = {
        "a stranger": sign_statement(statement, OperatorKey(bytes(32)).signing),
        "the operator": sign_statement(describe_heads([head], world.now_ms), KEY.signing),
        "its own, of another partition": sign_statement(statement, signer.key, certificate=signer.certificate),
    }
    world.append(at.topic, forged[hand])
    world.round_of({name: np.ones(4, np.float32) for name in "xyz"})
    monkeypatch.setattr(Settings, "log", lambda self, client_id="": world.log)
    result = run("export-log", "--to", "out", "--task", world.task)
    assert result.exit_code == 0, result.output
    assert [*scan(ExportedLog(Path("out")), at)] == [*scan(world.log, at)]
