"""What the tests of a deployment ask of the console: whether a command line would be understood."""

from __future__ import annotations

from typing import Any

import click
import typer

from ops.terminal.cli import app


def parsed(words: tuple[str, ...]) -> click.Command:
    """The command that `fedlog words` runs. Raises click's UsageError for a word that no command knows."""
    command: Any = typer.main.get_command(app)
    rest, context = list(words), None
    while True:
        context = command.make_context(command.name or "fedlog", rest, parent=context)
        if not hasattr(command, "resolve_command"):
            return command
        _, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
