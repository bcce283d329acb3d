"""Options that several commands share, so that they have one name and one explanation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

FromFiles = Annotated[
    Path | None,
    typer.Option("--from-files", metavar="FOLDER", help="Read an export in this folder instead of Kafka."),
]
DataPlugin = Annotated[
    str, typer.Option(metavar="MODULE:CALLABLE", help="Function that loads the examples (a data plugin).")
]
# The examples that come with the package, so that a first run needs no data.
DIGITS = "client_agent.learning.examples:digits"
