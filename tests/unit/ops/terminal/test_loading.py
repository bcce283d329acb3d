"""A command is there when it is asked for, and brings no other with it."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import typer

from ops.terminal.loading import LoadedCommands
from tests.root import ROOT

PLACES = {"new": "training.new:new", "task": "training.task:app"}


def make() -> LoadedCommands:
    return LoadedCommands(PLACES, package="ops.terminal.commands")


def test_functions_and_groups_become_commands_of_their_names() -> None:
    """A place names either; what is asked for twice is the same."""
    commands = make()
    assert (commands["new"].name, commands["task"].name) == ("new", "task")
    assert {"list", "show"} <= {*commands["task"].commands}
    assert commands["new"] is commands["new"]


def test_it_is_a_mapping_like_any_other() -> None:
    """Commands may be added and taken away, as click and typer do."""
    commands: Any = make()
    added = typer.main.get_group(typer.Typer(callback=print))
    commands["more"] = added
    assert ([*commands], len(commands), commands["more"]) == (["new", "task", "more"], 3, added)
    del commands["more"]
    del commands["task"]
    assert ("task" in commands, commands.get("task"), [*commands]) == (False, None, ["new"])


def test_a_command_brings_no_other_with_it() -> None:
    """`fedlog task` waits for no module of another command: the import of all takes longer than most commands run."""
    program = (
        "import sys; from typer.testing import CliRunner; from ops.terminal.cli import app; "
        "assert CliRunner().invoke(app, ['task', '--help']).exit_code == 0; "
        "print(*(name for name in sys.modules if name.startswith('ops.terminal.commands.')))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    loaded = {name.rpartition(".")[2] for name in done.stdout.split()}
    assert "task" in loaded
    assert not loaded & {"worker", "events", "replay", "serve", "run", "broker"}


def test_a_value_is_checked_and_what_is_none_is_not() -> None:
    """Guarantee: a command that is given text or nothing loads no checker; a wrong number is refused as ever."""
    code = (
        "import sys; from typer.testing import CliRunner; from ops.terminal.cli import app; "
        "found = CliRunner().invoke(app, ['task', 'list', '--since', 'never', '--json']); "
        "sys.stdout.write(f'{found.exit_code} {\"pydantic\" in sys.modules} '); "
        "found = CliRunner().invoke(app, ['task', 'fork', 'a', '--at', 'x', '--name', 'b']); "
        "sys.stdout.write(f'{found.exit_code} {found.output.count(\"valid integer\")}')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["2", "False", "2", "1"]
