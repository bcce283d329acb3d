"""`fedlog policy`: a policy file in full, as the log would hold it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from ops.console import say, say_json
from schemas import policy as policies

app = typer.Typer(help="A policy file: show it in full.", no_args_is_help=True)


@app.command()
def show(
    policy: Annotated[Path, typer.Argument(metavar="POLICY.toml", help="File with the policy.")],
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Another value for a field; repeatable.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show every field of a policy, with what its preset and the defaults fill in."""
    found = msgspec.to_builtins(policies.parse(policy.read_bytes(), changes=changes or []))
    if as_json:
        say_json(found)
        return
    for line in list_lines(found):
        say(line)


def list_lines(found: dict[str, Any]) -> list[str]:
    """The policy as TOML that says the same: first what stands on top, then a table each."""
    tables = {name: value for name, value in found.items() if isinstance(value, dict) and value}
    plain = {name: value for name, value in found.items() if name not in tables and value not in (None, {})}
    lines = [f"{name} = {_write(value)}" for name, value in plain.items()]
    for name, table in tables.items():
        lines += ["", f"[{name}]", *(f"{field} = {_write(value)}" for field, value in table.items())]
    return lines


def _write(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(name)} = {_write(each)}" for name, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_write, value)) + "]"
    return json.dumps(value)
