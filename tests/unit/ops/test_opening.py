"""What a command works on: a log, the partitions that it holds, and the key, where there is one."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from actors import keys
from ops.opening import list_partitions, load_key, open_log_or_export
from ops.settings import Settings
from ops.terminal.cli import app
from streams.exported import export
from streams.log import TopicPartition
from streams.memory import MemoryLog
from tests.places import PARTITIONS
from tests.worlds.ops_journal import PLACE, Journal, memory_log


def test_the_settings_log_is_closed_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that ends, in whatever way, leaves no connection behind."""
    log = memory_log()
    closed: list[bool] = []
    monkeypatch.setattr(log, "close", lambda: closed.append(True), raising=False)
    monkeypatch.setattr(Settings, "log", lambda self: log)
    with open_log_or_export(Settings(), None) as opened:
        assert opened is log
        assert closed == []
    assert closed == [True]


def test_an_export_holds_the_partitions_of_its_journals(tmp_path: Path) -> None:
    """A log has all partitions, an export those that were written."""
    log: MemoryLog = memory_log()
    Journal(log, "rounds")
    export(log, {TopicPartition("rounds", PLACE): 1}, folder=tmp_path / "out")
    with open_log_or_export(Settings(), tmp_path / "out") as opened:
        assert list_partitions(opened) == [PLACE]
    assert list_partitions(log) == [*range(PARTITIONS)]


def test_a_machine_without_the_key_has_none(tmp_path: Path) -> None:
    """An auditor has no operator's key, and that is no error."""
    settings = Settings(operator_key_file=tmp_path / "operator.key")
    assert load_key(settings) is None
    keys.create(settings.operator_key_file)
    assert load_key(settings) == keys.load(settings.operator_key_file)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("device --task t --state dev --data m:d", "Whom to believe?"),
        ("fleet --task t --devices 2", "Whom to believe?"),
        ("gateway", "Whom to believe?"),
        ("evaluate", "No key for the evaluator"),
        ("worker selector", "No key for the selector"),
    ],
)
def test_nobody_obeys_a_log_without_knowing_whom_to_believe(words: str, told: str, tmp_path: Path) -> None:
    """Guarantee: without the operator's public key, or a role's key file, nothing of a log is asked or obeyed."""
    # No broker answers there: whoever asked one first would say that instead.
    options = ["--folder", str(tmp_path / "none"), "--bootstrap-servers", "127.0.0.1:9"]
    ended = CliRunner().invoke(app, [*options, *words.split()])
    assert ended.exit_code == 2
    assert told in ended.stderr
