"""`fedlog new`: a project to begin with, as a folder of a few short files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ops.console import note, say


def _complete_template(incomplete: str) -> list[str]:
    from ops.operator.projects.making import list_templates

    return [name for name in list_templates() if name.startswith(incomplete)]


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the project: its folder, module and task.")],
    template: Annotated[
        str,
        typer.Option(
            metavar="TEMPLATE",
            autocompletion=_complete_template,
            help="torch, numpy, sklearn, lora, timeseries, regression or flower.",
        ),
    ] = "torch",
) -> None:
    """Write a new project: policy, model or learner, data, and a test of the score that it must reach."""
    from ops.operator.projects.making import make_project

    for path in make_project(name, template, folder=Path(name)):
        say(str(path))
    if template == "flower":
        note("`make flower`, where fedlog was set up, installs Flower once.")
    note(f"Try it alone: cd {name} && python -m pytest. Then with broker and devices: fedlog run policy.toml")
