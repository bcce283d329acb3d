"""Options that several commands share, so that they have one name and one explanation; what was typed, for messages."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from client_agent.learning.allow_list import AllowList

FromFiles = Annotated[
    Path | None,
    typer.Option("--from-files", metavar="FOLDER", help="Read an export in this folder instead of Kafka."),
]
DataPlugin = Annotated[
    str,
    typer.Option(
        metavar="MODULE:CALLABLE", help="Function that loads the examples, where the policy names none (a data plugin)."
    ),
]
Accelerator = Annotated[
    str, typer.Option(metavar="NAME", help="What torch computes with on this machine: cpu, cuda, cuda:1 or mps.")
]
LoadLimit = Annotated[
    float, typer.Option("--load-s", help="How long the data of one device may take to load, in seconds.", min=1)
]
NoPage = Annotated[bool, typer.Option("--no-page", help="Serve no page meanwhile.")]
Simulate = Annotated[
    Path | None,
    typer.Option(metavar="HABITS.toml", help="How devices are slow, away and die (default: not at all)."),
]
Attack = Annotated[
    str,
    typer.Option(
        "--attack",
        metavar="NAME:SHARE",
        help="For tests: this share of the devices is hostile, such as sign_flip:0.2 (docs/robustness.md).",
    ),
]
Allow = Annotated[
    list[str] | None,
    typer.Option(
        metavar="MODULE:CALLABLE", help="Code that devices and evaluator may run when a task names it; repeatable."
    ),
]
# Where the root keeps the words of the command line; click itself forgets them.
WORDS = "fedlog.words"
_PASSWORD_OPTION = "--sasl-password"  # noqa: S105 - the option, not its value


def read_public_keys(option: str, texts: Sequence[str] | None) -> list[bytes]:
    """The public keys that an option was given. Raises ConsoleError."""
    from ops.terminal.errors import ConsoleError
    from schemas.errors import EXIT_USAGE

    found = []
    for text in texts or ():
        try:
            key = bytes.fromhex(text)
        except ValueError:
            key = b""
        if len(key) != 32:
            raise ConsoleError(f"{option} {text}: a public key has 64 hex digits.", exit_code=EXIT_USAGE)
        found.append(key)
    return found


def make_allow_list(ctx: typer.Context) -> AllowList:
    """What the owner of this machine allows, and the command to repeat where that is not enough."""
    from client_agent.learning.allow_list import AllowList

    return AllowList(names=frozenset(ctx.obj.allow), command=describe_command(ctx.meta.get(WORDS, [ctx.info_name])))


def describe_command(words: Sequence[str]) -> str:
    """A command line as a person can repeat it, without the password that it may hold."""
    return shlex.join(["fedlog", *_hide_secrets(words)])


def _hide_secrets(words: Sequence[str]) -> Iterator[str]:
    before = ""
    for word in words:
        name, equals, _ = word.partition("=")
        if before == _PASSWORD_OPTION:
            yield "PASSWORD"
        else:
            yield f"{name}=PASSWORD" if equals and name == _PASSWORD_OPTION else word
        before = word
