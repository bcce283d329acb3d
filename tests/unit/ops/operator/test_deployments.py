"""A log is named once, and whoever holds the operator's key issues the keys of its roles."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.expiry import KeyExpired
from actors.keys import OperatorKey, OperatorKeyError, save_role
from ops.operator.deployments import find, issue_key, name_deployment, open_role_key
from ops.settings import Settings
from tests.worlds.builders import KEY, role_key
from tests.worlds.ops_journal import memory_log, write_key


def test_a_log_is_named_once() -> None:
    """Everybody who asks hears the same name, whoever asked first; another operator's name is none here."""
    log = memory_log()
    assert find(log, KEY.public_key) is None
    other = name_deployment(log, OperatorKey(bytes(32)))
    name = name_deployment(log, KEY)
    assert (name_deployment(log, KEY), find(log, KEY.public_key)) == (name, name)
    assert name != other
    assert name_deployment(memory_log(), KEY) != name


def test_a_role_has_its_key_from_its_file_or_from_the_operators(tmp_path: Path) -> None:
    """The file wins; with neither the message says how to make one."""
    log, settings = memory_log(), Settings(folder=tmp_path, operator_key_file=tmp_path / "operator.key")
    with pytest.raises(OperatorKeyError, match="fedlog key issue --for selector"):
        open_role_key(settings, log, role="selector")
    write_key(settings.operator_key_file)
    issued = open_role_key(settings, log, role="selector")
    assert (issued.role, issued.deployment, issued.operator) == ("selector", find(log, KEY.public_key), KEY.public_key)
    save_role(role_key("selector"), tmp_path / "given.key")
    given = Settings(
        folder=tmp_path, operator_key_file=settings.operator_key_file, role_key_file=str(tmp_path / "given.key")
    )
    assert open_role_key(given, log, role="selector") == role_key("selector")
    assert issue_key(log, KEY, role="selector", days=1).until_ms < issued.until_ms


def test_a_key_that_has_run_out_is_refused(tmp_path: Path) -> None:
    """By the command itself, before a worker or an evaluator does anything."""
    save_role(role_key("selector", until_ms=1), tmp_path / "old.key")
    settings = Settings(folder=tmp_path, role_key_file=str(tmp_path / "old.key"))
    with pytest.raises(KeyExpired):
        open_role_key(settings, memory_log(), role="selector")
