"""The console as people use it: options anywhere, tables or JSON, and errors that say what to do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from typer.testing import CliRunner

from actors.keys import OperatorKey
from ops.settings import Settings
from ops.terminal import cli
from ops.terminal.cli import app, move_to_front
from schemas.events import RoundOpened
from schemas.journal import JournalPosition
from schemas.topics import CATALOGUE
from streams.log import LogUnavailable, TopicPartition
from streams.memory import MemoryLog
from tests.unit.ops.history.test_projections import ROUND
from tests.unit.ops.terminal.conftest import Run, founded_log
from tests.worlds.builders import batch, decision
from tests.worlds.ops_journal import PLACE, TASK, Journal, append, created, journalled


def test_the_help_brings_nothing_heavy_with_it() -> None:
    """`fedlog --help` answers at once: no numpy, Kafka client, torch, ray or Faust is imported."""
    heavy = {"numpy", "kafka", "torch", "ray", "faust", "sklearn", "dp_accounting", "structlog", "psutil", "jgo"}
    program = (
        "import sys; from typer.testing import CliRunner; from ops.terminal.cli import app; "
        f"assert CliRunner().invoke(app, ['--help']).exit_code == 0; print(*{heavy!r} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []


def test_every_command_that_was_promised_is_there(run: Run) -> None:
    """Names are what scripts and READMEs hang on."""
    promised = {
        "demo": (),
        "run": ("--data", "--devices", "--set", "--seed", "--json", "--name", "--resume", "--keep"),
        "stop": (),
        "broker": ("start", "stop", "status"),
        "key": ("create", "show"),
        "topics": ("create", "list", "check"),
        "task": ("create", "list", "show", "pause", "resume", "close"),
        "worker": ("selector", "aggregator", "privacy"),
        "evaluate": ("--follow", "--task", "--data"),
        "fleet": ("--task", "--devices"),
        "device": ("--task", "--state", "--data"),
        "events": ("--topic", "--from", "--follow", "--json", "--partition", "--limit"),
        "replay": ("--to", "--full"),
        "verify": ("--json", "--from-files", "--checkpoint"),
        "export-log": ("--to", "--task", "--bodies", "--all"),
        "model": ("list", "export"),
    }
    for command, words in promised.items():
        result = run(command, "--help")
        assert result.exit_code == 0, command
        for word in words:
            assert word in result.output, f"{command} {word}"


def test_global_options_may_stand_before_or_after_the_command() -> None:
    """People put --bootstrap-servers where it comes to mind; nothing after `--` is touched."""
    takes_value = {"--bootstrap-servers": True, "--debug": False}
    for words in (
        ["--bootstrap-servers", "k:1", "task", "list", "--debug"],
        ["task", "--bootstrap-servers", "k:1", "list", "--debug"],
        ["task", "list", "--bootstrap-servers", "k:1", "--debug"],
    ):
        assert move_to_front(words, takes_value) == ["--bootstrap-servers", "k:1", "--debug", "task", "list"]
    assert move_to_front(["x", "--bootstrap-servers=k:1"], takes_value) == ["--bootstrap-servers=k:1", "x"]
    assert move_to_front(["x", "--", "--debug"], takes_value) == ["x", "--", "--debug"]
    assert move_to_front(["x", "--bootstrap-servers"], takes_value) == ["--bootstrap-servers", "x"]


def test_an_option_after_the_command_counts(log: MemoryLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """The setting reaches the log, wherever it stood."""
    seen: list[Settings] = []
    monkeypatch.setattr(Settings, "log", lambda self, client_id="": seen.append(self) or log)
    for words in (["--topic-prefix", "here", "task", "list"], ["task", "list", "--topic-prefix=here"]):
        assert CliRunner().invoke(app, words).exit_code == 0
    assert [settings.topic_prefix for settings in seen] == ["here", "here"]


def test_tasks_are_listed_for_people_and_for_machines(run: Run) -> None:
    """The same numbers, as columns and as one JSON object a task."""
    lines = run("task", "list").output.splitlines()
    assert lines[0].split()[:4] == ["task", "status", "version", "buffer"]
    assert lines[1].split()[:4] == [TASK, "running", "0", "1/3"]
    (told,) = [json.loads(line) for line in run("task", "list", "--json").output.splitlines()]
    assert (told["task"], told["updates_admitted"], told["updates_refused"]) == (TASK, 4, {"stale": 1})
    assert (told["metrics"], told["staleness_mean"], told["participations_max"]) == ({"accuracy": 0.125}, 0.75, 3)


def test_a_task_is_shown_in_full(run: Run, log: MemoryLog) -> None:
    """`task show` names what has happened, and leaves out what has not."""
    output = run("task", "show", TASK).output
    assert "buffer" in output
    assert "1 of 3" in output
    assert "epsilon" not in output
    assert json.loads(run("task", "show", TASK, "--json").output)["policy"]["stop"]["versions_max"] == 5


def test_the_life_of_a_task_is_told_to_the_log(run: Run, log: MemoryLog) -> None:
    """pause, resume and close each append one fact, and the list shows it."""
    for command, status in (("pause", "paused"), ("resume", "running"), ("close", "closing")):
        assert run("task", command, TASK).exit_code == 0
        assert status in run("task", "list").output
    again = run("task", "resume", TASK)
    assert (again.exit_code, "is over (closing), for good" in again.stderr) == (1, True)
    assert log.bounds(TopicPartition("tasks", PLACE)).end == 4


def test_a_bad_policy_is_told_field_by_field(run: Run, tmp_path: Path) -> None:
    """Every field that is wrong has its line, with value and bound."""
    (tmp_path / "p.toml").write_text(
        'model = "a:b"\n[selection]\ndevices_expected = 2\nconcurrency = 0\n'
        "[aggregation]\nupdates_per_round = 1\n[stop]\nversions_max = 0\n"
    )
    result = run("task", "create", "p.toml", "--name", "x")
    assert result.exit_code == 2
    assert "selection.concurrency = 0" in result.stderr
    assert "stop.versions_max = 0" in result.stderr


def test_no_broker_is_an_exit_code_of_its_own(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script can tell 'no Kafka' from 'no'."""

    def unavailable(self: Settings, client_id: str = "") -> MemoryLog:
        raise LogUnavailable("nobody at k:1")

    monkeypatch.setattr(Settings, "log", unavailable)
    result = run("task", "list")
    assert (result.exit_code, "nobody at k:1" in result.stderr) == (3, True)


def test_an_unknown_error_is_short_unless_asked(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """--debug shows the traceback, before or after the command; nobody else gets one."""

    def broken(self: Settings, client_id: str = "") -> MemoryLog:
        raise RuntimeError("surprise")

    monkeypatch.setattr(Settings, "log", broken)
    assert "surprise" in run("task", "list").stderr
    assert "Traceback" not in run("task", "list").stderr
    assert "Traceback" in run("task", "list", "--debug").stderr


def test_events_tell_a_tasks_story(run: Run) -> None:
    """Without a topic: what happened to the tasks, in the order of time; a limit ends it."""
    lines = run("events", "--task", TASK).output.splitlines()
    assert "TaskCreated" in lines[0]
    assert "UpdateAdmitted" in "".join(lines)
    assert "VersionEvaluated" in lines[-1]
    assert len(run("events", "--task", TASK, "--limit", 3).output.splitlines()) == 3
    told = [json.loads(line) for line in run("events", "--topic", "rounds", "--json").output.splitlines()]
    assert {(event["topic"], event["partition"]) for event in told} == {("rounds", PLACE)}
    assert [event["seq"] for event in told if "seq" in event] == [0] * len(ROUND)


def test_events_mark_what_readers_pass_over(run: Run, log: MemoryLog) -> None:
    """A record like the writer's that somebody else signed is no event: text and --json say so, wherever one starts."""
    opened = batch(JournalPosition(), decision(RoundOpened(task=TASK, round=7)))
    forged = journalled(opened, "rounds", PLACE, key=OperatorKey(bytes(32)))
    junk, copied = append(log, "rounds", b"junk"), append(log, "rounds", forged)
    for start in ([], ["--from", junk]):
        lines = run("events", "--topic", "rounds", *start).output.splitlines()
        assert ["[stranger]" in line for line in lines] == [False] * (len(lines) - 2) + [True, True]
        assert "[stranger] RoundOpened" in lines[-1]
        told = [json.loads(line) for line in run("events", "--topic", "rounds", "--json", *start).output.splitlines()]
        assert {event["offset"]: event["passed_over"] for event in told if "passed_over" in event} == {
            junk: "stranger",
            copied: "stranger",
        }


def test_verify_says_how_much_holds(run: Run, log: MemoryLog) -> None:
    """Exit 0 and the counts, strangers too; exit 1, topic, partition and offset where a record is off the chain."""
    assert run("verify").exit_code == 0
    stranger = append(log, "rounds", b"junk")
    told = run("verify")
    assert told.exit_code == 0
    assert f"1 records that no writer of this journal signed, from offset {stranger}" in told.output
    offset = append(log, "rounds", journalled(batch(JournalPosition(claim=9_999)), "rounds", PLACE))
    result = run("verify")
    assert result.exit_code == 1
    assert f"rounds[{PLACE}]@{offset}: " in result.stderr
    (broken,) = [row for row in map(json.loads, run("verify", "--json").stdout.splitlines()) if row["fault"]]
    assert (broken["topic"], broken["partition"], broken["offset"]) == ("rounds", PLACE, offset)


def test_junk_in_published_stops_no_actor(run: Run, log: MemoryLog) -> None:
    """The words are those of what was found: a broken chain keeps actors out, a stranger in `published` nobody."""
    offset = append(log, "published", b"junk")
    result = run("verify")
    assert result.exit_code == 1
    assert f"published[{PLACE}]@{offset}: " in result.stderr
    assert "Every chain is whole, and actors open all partitions" in result.stderr
    append(log, "rounds", journalled(batch(JournalPosition(claim=9_999)), "rounds", PLACE))
    broken = run("verify").stderr
    assert "no actor opens a partition whose chain is broken" in broken
    assert "Every chain is whole" not in broken


def test_topics_are_created_and_checked(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """`create` makes what is missing; a second time there is nothing to do."""
    empty = MemoryLog()
    monkeypatch.setattr(Settings, "log", lambda self, client_id="": empty)
    assert f"{len(CATALOGUE)} of {len(CATALOGUE)}" in run("topics", "create").output
    assert f"0 of {len(CATALOGUE)}" in run("topics", "create").output


def test_the_number_of_partitions_is_chosen_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an option of whatever creates topics; afterwards every command takes the number that there is."""
    empty = MemoryLog()
    monkeypatch.setattr(Settings, "log", lambda self, client_id="": empty)
    assert run("topics", "create", "--partitions", 3).exit_code == 0
    assert empty.partitions == 3
    assert run("topics", "create").exit_code == 0
    again = run("topics", "create", "--partitions", 4)
    assert (again.exit_code, "have 3 partitions, not 4" in again.stderr) == (1, True)
    assert run("topics", "create", "--partitions", 257).exit_code == 2
    assert run("events", "--partition", 2).exit_code == 0
    beyond = run("events", "--partition", 3)
    assert (beyond.exit_code, "there are 0 to 2" in beyond.stderr) == (2, True)
    assert run("export-log", "--to", "out", "--partition", 3).exit_code == 2


def test_a_key_is_made_once_and_for_its_owner_alone(run: Run, tmp_path: Path) -> None:
    """Mode 0600, 64 hex digits, and never overwritten."""
    path = tmp_path / ".fedlog" / "operator.key"
    path.unlink()
    assert run("key", "create").exit_code == 0
    text = path.read_text()
    assert (path.stat().st_mode & 0o777, len(bytes.fromhex(text))) == (0o600, 32)
    assert run("key", "create").exit_code != 0
    assert path.read_text() == text


def test_the_entry_point_exists() -> None:
    """What pyproject.toml names as `fedlog`."""
    assert callable(cli.main)


def test_an_evaluator_that_scores_nothing_says_so(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit 1 where there was something to score and none of it could be; exit 0 where nothing was left to do."""
    done = run("evaluate")
    assert (done.exit_code, done.stdout) == (0, "")
    unscored = founded_log()
    append(unscored, "tasks", created())
    Journal(unscored, "rounds").batch(*ROUND)
    monkeypatch.setattr(Settings, "log", lambda self, client_id="": unscored)
    failed = run("evaluate")
    assert failed.exit_code == 1
    assert f"{TASK} version 0: not scored." in failed.stderr
    assert "None of 1 versions could be scored" in failed.stderr


def test_data_of_an_option_are_of_one_task(run: Run) -> None:
    """A score is a fact for good: `--data` without `--task` would score every task with the data of one."""
    failed = run("evaluate", "--data", "rings:data")
    assert (failed.exit_code, "--task" in failed.stderr) == (2, True)


@pytest.mark.parametrize("command", [("device", "--state", "d"), ("fleet",), ("evaluate",)])
def test_a_name_that_no_task_can_have_is_refused_at_once(run: Run, command: tuple[str, ...]) -> None:
    """A device would ask for it for ever otherwise."""
    done = run(*command, "--task", "No Such")
    assert done.exit_code == 2
    assert "No Such" in done.stderr


def test_tasks_are_listed_by_what_they_are(run: Run) -> None:
    """Guarantee: `--running`, `--since` and the archive choose; a task that still trains cannot be put aside."""
    assert TASK in run("task", "list", "--running").stdout
    # The log's clock in these tests began in 1970.
    assert "No such tasks" in run("task", "list", "--since", "7d").stdout
    assert run("task", "list", "--since", "soon").exit_code == 2
    refused = run("task", "archive", TASK)
    assert (refused.exit_code, "task close" in refused.stderr) == (1, True)
    assert run("task", "close", TASK).exit_code == 0
    assert run("task", "archive", TASK).exit_code == 0
    assert "No such tasks" in run("task", "list").stdout
    assert TASK in run("task", "list", "--all").stdout
    assert run("task", "archive", TASK, "--undo").exit_code == 0
    assert TASK in run("task", "list").stdout
    assert "No such tasks" in run("task", "list", "--running").stdout


def test_the_version_is_told_without_a_broker() -> None:
    """Guarantee: `--version` answers anywhere, with nothing but the version."""
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"fedlog {metadata.version('fedlog')}\n")


def test_a_shell_completes_commands_and_options() -> None:
    """Guarantee: what `--install-completion` installs asks for words, and gets those of the command."""
    for typed, word in {
        "fedlog ta": "task",
        "fedlog task ar": "archive",
        "fedlog fleet --sim": "--simulate",
        "fedlog new x --template n": "numpy",
    }.items():
        asked = {"_FEDLOG_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
        done = subprocess.run(
            [sys.executable, "-c", "from ops.terminal.cli import app; app(prog_name='fedlog')"],
            env={**os.environ, **asked},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout.split() == [word], done.stderr
