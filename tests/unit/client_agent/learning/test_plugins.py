"""Names `module:callable`, and what they lead to."""

from __future__ import annotations

from pathlib import Path

import pytest

from client_agent.learning.plugins import PluginError, resolve


def test_a_module_that_has_moved_is_found_under_its_old_name() -> None:
    """Guarantee: recorded policies name `client_agent.models`, where the models once stood, and still train."""
    from client_agent.learning import examples, models

    assert resolve("client_agent.models:softmax_regression") is models.softmax_regression
    assert resolve("client_agent.examples:digits") is examples.digits


def test_a_file_of_the_current_folder_hides_no_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guarantee: a user's `json.py` does not replace the standard library's for fedlog."""
    (tmp_path / "json.py").write_text("def loads(): ...\n")
    monkeypatch.chdir(tmp_path)
    import json

    assert resolve("json:loads") is json.loads


@pytest.mark.parametrize("plugin", ["nonsense", "a:", ":b", "no_such_module_here:f", "math:no_such_name", "math:pi"])
def test_plugins_that_name_nothing(plugin: str) -> None:
    """Guarantee: a plugin name that leads to nothing is an error that repeats it."""
    with pytest.raises(PluginError, match=plugin):
        resolve(plugin)


def test_a_module_that_ends_its_process_or_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guarantee: a script without a guard ends nothing that serves other tasks, and keeps standard output clean."""
    (tmp_path / "a_script_that_exits.py").write_text("import sys\nprint('a word')\nsys.exit(3)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PluginError, match=r"'a_script_that_exits' cannot be imported \(sys\.exit\(3\)\)"):
        resolve("a_script_that_exits:main")
    assert capsys.readouterr() == ("", "a word\n")
